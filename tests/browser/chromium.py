"""The browser of this machine. Whoever imports this is skipped where playwright is not installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.conftest import require

try:
    from playwright.sync_api import Browser, Locator, Page, Route, ViewportSize, expect, sync_playwright
except ImportError:
    if os.environ.get("REQUIRE_BROWSER") == "1":
        raise
    pytest.skip("playwright is not installed: pip install playwright", allow_module_level=True)

__all__ = ["Browser", "Locator", "Page", "Route", "ViewportSize", "expect", "launched", "wider_than_page"]

BROWSERS = ("/usr/bin/chromium-headless-shell", "/usr/bin/chromium", "google-chrome")
# As root, in a container without a GPU; and nothing that calls home.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

WIDER = """() => {
  const [wide, page] = [document.documentElement.scrollWidth, document.documentElement.clientWidth];
  if (wide <= page) return [];
  const outside = [...document.querySelectorAll("body *")].filter((each) => each.getBoundingClientRect().right > page);
  return [`${wide} of ${page} px`, ...outside.map((each) => each.cloneNode().outerHTML)];
}"""


def wider_than_page(page: Page) -> list[str]:
    """What makes a page scroll sideways: how wide it is, then the elements that stick out; empty where none does."""
    return page.evaluate(WIDER)


@contextmanager
def launched() -> Generator[Browser]:
    """A Chromium of this machine; with REQUIRE_BROWSER=1 there has to be one."""
    path = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM_PATH", ""), *BROWSERS))), None)
    if path is None:
        require("REQUIRE_BROWSER", f"no browser: set CHROMIUM_PATH, or install one of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()
