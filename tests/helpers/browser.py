"""Pages in headless Chromium, each with a log of its errors and of its requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.core.chromium import missing, visitor

if TYPE_CHECKING:
    from playwright.sync_api import (
        Browser,
        CDPSession,
        ConsoleMessage,
        Page,
        Request,
        Response,
    )

REQUIRED_VARIABLE = "DIFFCLS_BROWSER_REQUIRED"
"""Environment variable: where it is 1, a missing browser is an error, not a skip."""
LOCAL_SCHEMES = {"file", "data", "blob", "about"}
LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}


def reason_to_skip() -> str | None:
    """What tests in the browser lack in this environment, None if nothing."""
    return missing("playwright", "axe_playwright_python")


def leaves_the_machine(url: str) -> bool:
    """Whether a request to `url` needs the network."""
    parts = urlsplit(url)
    return parts.scheme not in LOCAL_SCHEMES and parts.hostname not in LOCAL_HOSTS


@dataclass
class PageLog:
    """What went wrong in a page since it was opened, in order, as sentences.

    Args:
        width: width of its viewport in CSS pixels.
        switch: connection by which scripts are turned off, None where they run.
        entries: what went wrong.
    """

    width: int
    switch: CDPSession | None = None
    entries: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Write down the errors and requests of `page`."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.entries.append(f"page error: {error}"))
        page.on("crash", lambda _: self.entries.append("the page crashed"))
        page.on("websocket", lambda socket: self._address(socket.url))
        page.on("request", lambda request: self._address(request.url))
        page.on("requestfailed", self._failed)
        page.on("response", self._response)

    def run_scripts(self, run: bool) -> None:
        """Turn scripts on and off again in a page that was opened without."""
        if self.switch is not None:
            self.switch.send("Emulation.setScriptExecutionDisabled", {"value": not run})

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.entries.append(f"console error: {message.text} ({message.location.get('url')})")

    def _address(self, url: str) -> None:
        if leaves_the_machine(url):
            self.entries.append(f"request that leaves the machine: {url[:200]}")

    def _failed(self, request: Request) -> None:
        # a page that is left, or a stream that is closed, aborts its own requests
        if request.failure != "net::ERR_ABORTED":
            self.entries.append(f"failed request: {request.url[:200]} ({request.failure})")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.entries.append(f"failed request: {response.url[:200]} (HTTP {response.status})")


class Pages:
    """Opens pages in one browser and keeps their logs."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.logs: dict[Page, PageLog] = {}

    def open(
        self,
        where: str | Path,
        width: int = 1280,
        scheme: str = "light",
        javascript: bool = True,
    ) -> Page:
        """A page of a visitor of its own (no cookies or storage are shared), loaded.

        Args:
            where: a URL, or the path of an HTML file.
            width: width of the viewport in CSS pixels; one of `WIDTHS` for its height.
            scheme: preferred colour scheme, "light" or "dark".
            javascript: whether the page's own scripts run.
        """
        context = visitor(self.browser, width, scheme)
        page = context.new_page()
        # playwright's own `java_script_enabled` cannot be undone, and axe needs promises
        log = PageLog(width, None if javascript else context.new_cdp_session(page))
        self.logs[page] = log
        log.watch(page)
        log.run_scripts(javascript)
        page.goto(where.resolve().as_uri() if isinstance(where, Path) else where)
        if javascript:
            page.evaluate("document.fonts.ready.then(() => null)")
        return page

    def close(self) -> None:
        """Close the pages opened so far."""
        for page in self.logs:
            page.context.close()
        self.logs.clear()


def unfold(page: Page) -> None:
    """Open every ``<details>`` of the page, so that an audit covers what they hide."""
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
