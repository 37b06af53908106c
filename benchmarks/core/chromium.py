"""Headless Chromium, driven by playwright: where the browser is, and how it is started.

The browser has no network but this machine: another host's name is not found, so that a page that
needs one fails as it would for a visitor without a connection.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Playwright

WIDTHS = {1280: 800, 390: 844}
"""Width of the viewport to its height, in CSS pixels: a laptop and a phone held upright."""
SCHEMES = ("light", "dark")
PHONE_WIDTH = 600
"""Narrower viewports behave as a phone's: touch, and the page's own viewport tag counts."""
EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EXECUTABLE_VARIABLE = "DIFFCLS_CHROMIUM"
"""Environment variable with the path of the browser; without it, the first of `EXECUTABLES`."""
ARGUMENTS = (
    "--no-sandbox",  # in a container the user is often root
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
)


def find_chromium() -> str | None:
    """Path of the browser, None where there is none."""
    named = os.environ.get(EXECUTABLE_VARIABLE)
    if named:
        return shutil.which(named)
    return next(filter(None, map(shutil.which, EXECUTABLES)), None)


def missing(*modules: str) -> str | None:
    """What is needed and not there: one of these modules, or the browser; None if nothing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return f"needs {module}: pip install 'diffcls[browser]'"
    if find_chromium() is None:
        return f"needs Chromium: apt-get install chromium, or set {EXECUTABLE_VARIABLE}"
    return None


def launch(playwright: Playwright) -> Browser:
    """The headless browser."""
    return playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))


@contextmanager
def chromium() -> Iterator[Browser]:
    """The headless browser, closed at the end.

    Raises:
        UsageError: where playwright or the browser is missing.
    """
    lack = missing("playwright")
    if lack is not None:
        raise UsageError(f"pages are opened in a browser, which {lack}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            yield browser
        finally:
            browser.close()


def visitor(browser: Browser, width: int = 1280, scheme: str = "light") -> BrowserContext:
    """A visitor of its own: no cookies or storage are shared with another.

    Args:
        browser: the browser.
        width: width of the viewport in CSS pixels; one of `WIDTHS` for its height.
        scheme: preferred colour scheme, "light" or "dark".
    """
    phone = width < PHONE_WIDTH
    return browser.new_context(
        viewport={"width": width, "height": WIDTHS.get(width, 800)},
        is_mobile=phone,
        has_touch=phone,
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",  # what is judged is the page at rest
        locale="en-GB",
        timezone_id="UTC",
        service_workers="block",
    )
