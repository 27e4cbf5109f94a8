"""Pages in headless Chromium, for tests that look at what a person would."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

# Without these Chromium asks its maker's hosts at every start; root has no sandbox.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


@contextlib.contextmanager
def open_browser(width: int = 1400, height: int = 1000) -> Iterator[Page]:
    """An empty page; skips the test where Chromium is not installed."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs the system package that brings `chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


def media_state(page: Page, selector: str = "video") -> int:
    """`readyState` of the first media element once it has data (2 or more), else what it has after 20 s."""
    page.wait_for_selector(selector, timeout=30_000)
    with contextlib.suppress(Exception):
        page.wait_for_function(f"document.querySelector('{selector}').readyState >= 2", timeout=20_000)
    return int(page.evaluate(f"document.querySelector('{selector}').readyState"))


def screenshot(page: Page, path: Path) -> Path:
    """The visible part of the page as a PNG."""
    page.screenshot(path=str(path))
    return path
