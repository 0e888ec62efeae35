"""Pages from files in a real browser without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass(slots=True)
class Visit:
    """What a page has done besides what it shows."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Uncaught errors, and what it wrote to the console."""


@contextmanager
def browser() -> Iterator[Browser]:
    """A new one. Skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS)
        )
        try:
            yield started
        finally:
            started.close()


@contextmanager
def visit(
    browser: Browser, file: Path, width: int = 1280, theme: str = "light"
) -> Iterator[Visit]:
    """The file opened in a window so wide; at the end it must not have asked for
    anything but itself, nor have complained."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if theme == "dark" else "light",
        offline=True,
    )
    try:
        it = Visit(context.new_page())
        it.page.on("request", lambda request: it.requests.append(request.url))
        it.page.on("pageerror", lambda error: it.complaints.append(str(error)))
        it.page.on("console", lambda message: it.complaints.append(message.text))
        it.page.set_default_timeout(10_000)
        it.page.goto(file.as_uri())
        yield it
        assert it.requests == [file.as_uri()]
        assert it.complaints == []
    finally:
        context.close()
