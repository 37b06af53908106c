"""The audit itself: each kind of defect is found where it is planted, and none in a clean page."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import leaves_the_machine, unfold

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>A page</title><link rel="icon" href="data:,">
{viewport}
<style>
  :root {{ color-scheme: light dark; }}
  body {{ margin: 1rem; color: CanvasText; background: Canvas; }}
  .scroll {{ overflow-x: auto; }} .scroll div {{ width: 3000px; }}
  .ellipsis {{ width: 8rem; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }}
  .spoken {{ position: absolute; width: 1px; height: 1px; overflow: hidden; white-space: nowrap; }}
  .skip {{ position: absolute; left: -9999px; }}
  .drawer {{ position: fixed; top: 0; right: -300px; width: 250px; }}
</style></head>
<body><main><h1>A page</h1>{body}</main></body></html>"""
VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'
CLEAN = f"""
<p>A text that breaks where the screen ends, whatever its width may be, and then goes on.</p>
<a class="skip" href="#end">Skip to the end</a>
<div class="scroll" tabindex="0" role="region" aria-label="table"><div>wide</div></div>
<p class="ellipsis">a label that is longer than its place and ends in three dots</p>
<p class="spoken">a text for screen readers that is much longer than a pixel</p>
<aside class="drawer" aria-label="menu">a drawer that is opened later</aside>
<img src="{PIXEL}" alt="a black pixel" width="100" height="100">
<img src="{PIXEL}" alt="" role="presentation">
<svg role="img" aria-label="a plot" width="200" height="100"><text x="300">out</text></svg>
<svg width="100" height="100" aria-hidden="true"></svg>
<details><summary>More</summary><p>folded</p></details>
<label>Label <input style="max-width: 100%"></label><p id="end">The end.</p>"""
LONG_WORD = "n" * 400

PLANTED = {
    "console": ("<script>console.error('lost')</script>", "console error: lost"),
    "exception": ("<script>undefinedName()</script>", "page error: undefinedName is not defined"),
    "rejection": ("<script>Promise.reject(new Error('no'))</script>", "page error: no"),
    "missing file": ('<img src="none.png" alt="none">', "failed request: file:"),
    "font of the web": (
        '<link rel="stylesheet" href="https://fonts.example.org/a.css">',
        "request that leaves the machine: https://fonts.example.org/a.css",
    ),
    "script of the web": (
        "<script>fetch('https://192.0.2.1/a').catch(() => 0)</script>",
        "request that leaves the machine",
    ),
    "wide box": ('<div style="width: 1500px">wide</div>', "overflow: the document is 15"),
    "long word": (f"<p>{LONG_WORD}</p>", "overflow: the document is"),
    "cut off by the page": (
        f"<style>body {{ overflow-x: hidden }}</style><p>{LONG_WORD}</p>",
        "cut off: <p>",
    ),
    "cut off by a box": (
        '<div style="overflow: hidden; width: 9rem"><div style="width: 20rem">'
        "a text that goes on beyond its box and is lost</div></div>",
        "cut off: <div>",
    ),
    "button outside": (
        '<style>html { overflow-x: clip }</style><button style="margin-left: 98vw">Go on</button>',
        "cut off: <button>",
    ),
    "scroll container outside": (
        "<style>body { overflow-x: hidden }</style>"
        '<div class="scroll" tabindex="0" style="width: 2000px"><div>wide</div></div>',
        "cut off: <div>",
    ),
    "no alt": (f'<img src="{PIXEL}">', "alternative text missing: <img>"),
    "empty alt": (f'<img src="{PIXEL}" alt="">', "alternative text missing: <img>"),
    "plot without a name": (
        '<svg role="img" width="9" height="9"></svg>',
        "alternative text missing: <svg>",
    ),
    "plot without a role": (
        '<svg width="200" height="100"></svg>',
        "alternative text missing: <svg>",
    ),
    "broken image": ('<img src="data:image/png;base64,AAAA" alt="broken">', "broken image: <img>"),
    "contrast": ('<p style="color: #999; background: #aaa">grey</p>', "axe color-contrast (seri"),
    "button without a name": ("<button></button>", "axe button-name (critical)"),
    "field without a label": ("<input>", "axe label (critical)"),
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(body: str, viewport: str = VIEWPORT) -> Path:
        path = tmp_path / "page.html"
        path.write_text(PAGE.format(body=body, viewport=viewport), encoding="utf-8")
        return path

    return write


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("javascript", [True, False])
def test_a_clean_page_passes(open_page, audit, written, width, scheme, javascript):
    page = open_page(written(CLEAN), width, scheme, javascript=javascript)
    audit(page)
    unfold(page)
    audit(page)


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_defect_is_found_and_named(open_page, audit, written, kind):
    body, sentence = PLANTED[kind]
    page = open_page(written(CLEAN + body))
    page.wait_for_timeout(50)
    with pytest.raises(AssertionError) as caught:
        audit(page)
    assert sentence in str(caught.value)


def test_a_page_laid_out_for_a_wider_screen_overflows_on_a_phone(open_page, audit, written):
    page = open_page(written(CLEAN, viewport=""), width=390)
    with pytest.raises(AssertionError, match="laid out at 980 px on a screen of 390 px"):
        audit(page)


def test_a_box_that_fits_a_laptop_overflows_a_phone(open_page, audit, written):
    path = written(CLEAN + '<div style="width: 600px">wide</div>')
    audit(open_page(path, width=1280))
    with pytest.raises(AssertionError, match="overflow"):
        audit(open_page(path, width=390))


def test_contrast_is_judged_in_the_colours_of_the_scheme(open_page, audit, written):
    path = written(CLEAN + '<p style="color: #222">dark on the page</p>')
    audit(open_page(path, scheme="light"))
    with pytest.raises(AssertionError, match="color-contrast"):
        audit(open_page(path, scheme="dark"))


def test_layout_and_accessibility_are_judged_with_javascript_off(open_page, audit, written):
    body = '<script>document.write("from a script")</script><div style="width: 1500px">w</div>'
    page = open_page(written(CLEAN + body + "<button></button>"), javascript=False)
    assert "from a script" not in page.inner_text("body")
    with pytest.raises(AssertionError, match=r"overflow(.|\n)*button-name"):
        audit(page)


def test_what_a_closed_element_hides_is_judged_once_unfolded(open_page, audit, written):
    page = open_page(written(CLEAN + "<details><summary>s</summary><button></button></details>"))
    audit(page)
    unfold(page)
    with pytest.raises(AssertionError, match="button-name"):
        audit(page)


def test_excluded_elements_and_ignored_rules_are_left_out(open_page, audit, written):
    foreign = f'<div id="foreign"><img src="{PIXEL}"><button></button></div>'
    page = open_page(written(CLEAN + foreign + "<input>"))
    audit(page, exclude=["#foreign"], ignore=["label"])
    with pytest.raises(AssertionError, match="axe label"):
        audit(page, exclude=["#foreign"])


def test_pages_served_by_this_machine_are_judged_by_their_answers(
    open_page, audit, written, served
):
    path = written(CLEAN)
    audit(open_page(f"{served}/{path.name}"))
    written(CLEAN + "<script>fetch('/none')</script>")
    page = open_page(f"{served}/{path.name}")
    page.wait_for_timeout(100)
    with pytest.raises(AssertionError, match=r"none \(HTTP 404\)"):
        audit(page)


@pytest.mark.parametrize(
    ("url", "leaves"),
    [
        ("file:///a/b.html", False),
        ("data:text/plain,a", False),
        ("http://127.0.0.1:80/a", False),
        ("http://localhost/a", False),
        ("http://[::1]:80/a", False),
        ("https://127.0.0.1.example.org/", True),
        ("ws://192.168.0.1/", True),
    ],
)
def test_a_request_leaves_the_machine_unless_its_host_is_this_one(url, leaves):
    assert leaves_the_machine(url) == leaves
