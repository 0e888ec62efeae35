"""What a browser would find in a page."""

from __future__ import annotations

from html.parser import HTMLParser

ADDRESSES = {"src", "href", "action", "data", "poster", "srcset", "xlink:href"}


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sections: list[str | None] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.scripts: dict[str | None, str] = {}
        self.texts: list[str] = []
        self._script: str | None = None
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self._inside = name
        self._script = dict(attrs).get("id")
        if name == "section":
            self.sections.append(self._script)
        for key, value in attrs:
            if key in ADDRESSES:
                self.addresses.append(value or "")
            if key.startswith("on"):
                self.handlers.append(key)

    def handle_endtag(self, name: str) -> None:
        self._inside = ""

    def handle_data(self, text: str) -> None:
        if self._inside == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + text
        elif self._inside != "style":
            self.texts.append(text)

    @property
    def text(self) -> str:
        return "".join(self.texts)
