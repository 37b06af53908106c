"""Markup of the panels: texts of visitors are shown as text, and nothing is seen by sight alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from diffcls.api.live_race import RaceState
from diffcls.demo import markup
from diffcls.demo.models import ClipAnswer
from diffcls.explain.evidence import Evidence

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
TAGS = {"section", "h2", "p", "strong", "span", "b", "div", "i", "ul", "li", "figure", "img"}
TAGS |= {"figcaption", "table", "caption", "thead", "tbody", "tr", "th", "td"}


class Reader(HTMLParser):
    """Collects tags, attributes and text; fails where tags are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def state(labels: tuple[str, ...], finished: bool = False) -> RaceState:
    posterior = np.array([0.2, 0.7999, 0.0001])
    return RaceState(
        labels=labels,
        posterior=posterior,
        differences=np.array([0.01, 0.0, 0.3]),
        draws=np.array([6, 6, 2]),
        alive=np.array([not finished, True, False]),
        prediction=[{"label": labels[k], "score": float(posterior[k])} for k in (1, 0, 2)],
        evaluations=14,
        seconds=0.1,
        finished=finished,
        scale=100.0,
    )


def evidence(label: str = "cat", other: str = "dog") -> Evidence:
    differences = np.random.default_rng(0).normal(0.1, 0.1, (8, 4, 4))
    pixels = np.zeros((8, 8, 3), np.uint8)
    return Evidence(label, other, differences, np.arange(8.0), 2.0, pixels)


def panels(name: str) -> dict[str, str]:
    labels = (name, "cat", "dog")
    clip = ClipAnswer(name, ((name, 0.9), ("cat", 0.1)))
    return {
        "race": markup.race(state(labels), 2000),
        "evidence": markup.evidence(evidence(name, "dog")),
        "samples": markup.samples([Image.new("RGB", (4, 4))], name, 4),
        "clip": markup.clip(clip, name),
        "no clip": markup.clip(ClipAnswer(reason=name), name),
        "message": markup.message(name, "error"),
        "welcome": markup.welcome(),
    }


@pytest.mark.parametrize("panel", panels("a"))
def test_a_text_of_a_visitor_is_never_markup(panel: str) -> None:
    reader = Reader(panels(EVIL)[panel])
    assert {tag for tag, _ in reader.elements} <= TAGS
    assert not any(name.startswith("on") for _, found in reader.elements for name in found)
    if panel != "welcome":
        shown = reader.text + "".join(str(found.get("alt")) for _, found in reader.elements)
        assert EVIL in shown


@pytest.mark.parametrize("panel", panels("a"))
def test_images_have_alternative_texts_and_lie_in_the_page_itself(panel: str) -> None:
    for tag, found in Reader(panels("a horse")[panel]).elements:
        if tag == "img":
            assert found["alt"] and str(found["src"]).startswith("data:image/png;base64,")


def test_a_race_lists_its_labels_in_order_and_a_finished_one_best_first() -> None:
    labels = ("cat", "dog", "fox")
    running, ended = state(labels), state(labels, finished=True)
    text = Reader(markup.race(running, 2000)).text
    assert text.index("cat") < text.rindex("dog") < text.rindex("fox")
    assert "2 of 3 labels still in the race" in text and "14 evaluations" in text
    assert "cat20.0 %1.0 nats behind" in text and "dog80.0 %ahead" in text
    assert "out after 2 draws, 30.0 nats behind" in text
    text = Reader(markup.race(ended, 2000)).text
    assert text.rindex("dog") < text.rindex("cat") < text.rindex("fox")
    assert "winner" in text and "143 times fewer" in text and "all others dropped out" in text


def test_a_race_of_more_evaluations_than_published_says_its_share() -> None:
    text = Reader(markup.race(state(("a", "b", "c"), finished=True), 20)).text
    assert "14 evaluations, 70% of them" in text


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0, "0.0 %"), (1e-9, "< 0.1 %"), (0.5, "50.0 %"), (0.9995, "> 99.9 %"), (1.0, "100.0 %")],
)
def test_a_probability_is_never_rounded_to_certainty(p: float, text: str) -> None:
    assert markup.percent(p) == text


def test_the_parts_of_the_evidence_add_up_to_what_the_panel_says() -> None:
    found = evidence()
    reader = Reader(markup.evidence(found))
    assert f"{found.log_odds:.1f} ± {found.difference_stderr * found.scale:.1f} nats" in reader.text
    cells = re.findall(r"[+\u2212-]\d+\.\d", reader.text)
    assert not any(cell.startswith("-") for cell in cells)
    parts = [float(cell.replace("\u2212", "-")) for cell in cells]
    assert sum(parts) == pytest.approx(found.log_odds, abs=0.05 * len(parts) + 0.01)


def test_negative_nats_have_a_minus_sign_and_no_hyphen() -> None:
    assert (markup.nats(-1.25), markup.nats(2.04)) == ("\u22121.2", "2.0")
    assert (markup.nats(-0.5, "+"), markup.nats(0.5, "+")) == ("\u22120.5", "+0.5")


def test_the_evidence_says_that_the_race_estimates_from_fewer_draws() -> None:
    text = Reader(markup.evidence(evidence())).text
    assert "by 8 draws of both labels" in text and "may differ" in text
