"""HTML of strings that nobody trusts: whatever is not Html is escaped."""

from __future__ import annotations

import html
import json


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None
"""None is nothing; an Html stays as it is; all else is text."""

_VOID = {"input", "br", "meta"}


def tag(name: str, /, *children: Child, **attributes: str | bool | None) -> Html:
    """An element. Attributes: True is one without a value, False and None are left
    out; `class_` is class, and `_` in other names is `-`."""
    written = "".join(
        f" {_name(key)}" + ("" if value is True else f'="{html.escape(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    start = f"<{name}{written}>"
    return Html(start if name in _VOID else f"{start}{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """One after the other."""
    return Html(
        "".join(
            child if isinstance(child, Html) else html.escape(child)
            for child in children
            if child is not None
        )
    )


def data(name: str, value: object) -> Html:
    """A value for the page's scripts, which find it by that id: JSON in which no text
    can end the element (HTML 4.12.1.3: `<` is what must not be there)."""
    written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text = written.replace("<", r"\u003c")
    return Html(f'<script type="application/json" id="{name}">{text}</script>')


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
