"""What the benchmark of the pages notes in the browser, on pages whose timing is known."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.speed import pages

DEMO = """<!doctype html><title>d</title><button class="dc-example">3</button>
<div id="race"></div><div class="dc-clip"></div>
<script>
  const show = (lanes, answer) => { document.querySelector("#race").innerHTML =
    `<section class="dc-race"><p class="dc-answer"${answer ? ' role="status"' : ""}>3</p>` +
    `<ul class="dc-lanes"><li>${lanes}</li></ul></section>`; };
  document.querySelector(".dc-example").onclick = () => {
    [1, 2, 2, 3].forEach((k, i) => setTimeout(() => show(k, false), 100 * (i + 1)));
    setTimeout(() => show("last", true), 1000);
    setTimeout(() => { document.querySelector(".dc-clip").innerHTML =
      '<ul class="dc-lanes"></ul>'; }, 1500);
  };
</script>"""
REPORT = """<!doctype html><title>r</title><p>text</p><img src="slow.svg" alt="slow">"""
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
SECONDS = 0.6


class Slow(http.server.BaseHTTPRequestHandler):
    """Serves a report whose picture takes a while."""

    def do_GET(self) -> None:
        slow = self.path.endswith("slow.svg")
        if slow:
            time.sleep(SECONDS)
        self.send_response(200)
        self.send_header("Content-Type", "image/svg+xml" if slow else "text/html")
        self.end_headers()
        self.wfile.write((PICTURE if slow else REPORT).encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def slow_report() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_each_state_of_the_race_counts_once_until_the_answer(open_page, tmp_path) -> None:
    path = tmp_path / "demo.html"
    path.write_text(DEMO)
    page = open_page(path)
    page.evaluate(pages.START_RACE.read_text(encoding="utf-8"))
    page.wait_for_function("race.complete > 0")
    figures = pages.answer_figures(page.evaluate("race"))
    assert figures[pages.UPDATES] * figures[pages.FIRST_ANSWER] == pytest.approx(4)  # 1, 2, 3, last
    assert figures[pages.FIRST_ANSWER] >= 1.0
    assert figures[pages.COMPLETE] >= figures[pages.FIRST_ANSWER] + 0.3


def test_a_report_is_open_when_its_last_picture_is_loaded(open_page, slow_report) -> None:
    page = open_page(slow_report)
    page.wait_for_function(f"({pages.OPENED})() > 0")
    assert page.evaluate(pages.OPENED) >= 1000 * SECONDS
