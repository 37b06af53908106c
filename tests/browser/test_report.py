"""The report in a browser: wide and narrow, light and dark, without JavaScript, and printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.stored_runs import write_run

from diffcls import evaluate, report
from diffcls.editing.options import EditSettings
from diffcls.reports.page import counterfactuals

FLAGS = "--limit 24 --draws 2 --threads 1 --quiet --no-check-model --json".split()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two runs on the digits, and of two with long names and wrong answers.

    The first wrong image has its counterfactual.
    """
    out = tmp_path_factory.mktemp("browser")
    for seed in ("0", "1"):
        assert evaluate.main([*FLAGS, "--seed", seed, "--output-dir", str(out)]) == 0
    long = "a class of a very long name, as some have it, with_no_space_to_break_at_all"
    names = (long, "<dog>", "newt")
    answers = {f"folder/of/images/{i}.jpg": (i % 3, (i + (i % 2)) % 3) for i in range(30)}
    for seed in (0, 1):
        write_run(out, answers, seed=seed, class_names=names, evaluations=10 + seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counterfactuals, "edit_settings", lambda: EditSettings(steps=5))
        assert report.main(["--output-dir", str(out), "--counterfactuals", "1"]) == 0
    return out / "report.html"


def test_the_report_has_no_defect(
    page_file: Path,
    open_page: Callable[..., Any],
    audit: Callable[..., None],
    width: int,
    scheme: str,
) -> None:
    page = open_page(page_file, width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    audit(page)


def test_the_report_works_without_javascript(
    page_file: Path, open_page: Callable[..., Any], width: int
) -> None:
    page = open_page(page_file, width, "light", javascript=False)
    section = page.locator("details.run").first
    section.locator("> summary").click()
    assert section.locator("figure.plot svg").first.is_visible()
    second = page.locator(".reference > summary").nth(1)
    second.click()
    assert page.locator(".reference").nth(1).locator("table").is_visible()
    assert page.locator("th button").count() == 0  # nothing that would do nothing


def test_a_counterfactual_shows_each_edit_above_its_probabilities(
    page_file: Path, open_page: Callable[..., Any], width: int
) -> None:
    page = open_page(page_file, width, "light")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    way = page.locator(".way")
    card = page.locator("li.card", has=way).bounding_box()
    tiles = way.locator("li").all()
    assert len(tiles) > 2
    for tile in tiles:
        box, picture = tile.bounding_box(), tile.locator("img")
        assert card["x"] <= box["x"] and box["x"] + box["width"] <= card["x"] + card["width"]
        shown = tile.locator("b").all_inner_texts()
        assert all(value in picture.get_attribute("alt") for value in shown) and len(shown) == 2
        below = tile.locator("span").bounding_box()
        assert below["y"] >= picture.bounding_box()["y"] + picture.bounding_box()["height"]


def test_tables_are_sorted_by_a_column(page_file: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(page_file)
    column = page.locator("#runs th", has_text="Accuracy")
    cells = page.locator("#runs tbody td:nth-child(5)")
    column.get_by_role("button").click()
    down = [float(text.removesuffix(" %")) for text in cells.all_inner_texts()]
    assert down == sorted(down, reverse=True) and column.get_attribute("aria-sort") == "descending"
    column.get_by_role("button").click()
    assert [float(t.removesuffix(" %")) for t in cells.all_inner_texts()] == down[::-1]


def test_a_menu_chooses_the_reference_of_the_paired_tests(
    page_file: Path, open_page: Callable[..., Any]
) -> None:
    page = open_page(page_file)
    group = page.locator(".paired").first
    group.locator("select").select_option("1")
    shown = [one.is_visible() for one in group.locator(".reference").all()]
    assert shown == [False, True]


def test_galleries_are_filtered_by_class(page_file: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(page_file)
    section = page.locator("details.run", has_text="sd2-base").first
    section.locator("> summary").click()
    gallery = section.locator(".gallery-block").first
    gallery.locator("input").fill("<dog>")
    cards = [card.inner_text() for card in gallery.locator(".card:visible").all()]
    assert 0 < len(cards) < gallery.locator(".card").count()
    assert all("<dog>" in text for text in cards)


def test_a_link_opens_the_section_of_its_run(
    page_file: Path, open_page: Callable[..., Any]
) -> None:
    page = open_page(page_file)
    link = page.locator("#runs tbody a").first
    link.click()
    target = page.locator(f"details.run{link.get_attribute('href')}")
    target.locator(".body").wait_for(state="visible")


PRINTED_WIDTH = 688
"""CSS pixels across a portrait A4 page between the margins of 14 mm of the report."""
MIN_FONT_SIZE = 7.0


def test_printed_confusion_matrices_fit_a_portrait_page(
    tmp_path: Path, open_page: Callable[..., Any]
) -> None:
    """Up to 30 classes, the most of which a matrix is shown."""
    for size in (10, 22, 30):
        names = tuple(f"a dish with a name {k:02}" for k in range(size))
        answers = {f"{i}.jpg": (i % size, (i + i // 1000) % size) for i in range(1000 + size)}
        prompts = {"class_names": names, "prompts": names, "class_of": tuple(range(size))}
        write_run(tmp_path, answers, seed=size, **prompts)
    assert report.main(["--output-dir", str(tmp_path)]) == 0
    page = open_page(tmp_path / "report.html", PRINTED_WIDTH)
    page.emulate_media(media="print")
    matrices = page.locator(".matrix").all()
    assert len(matrices) == 3
    for matrix in matrices:
        box = matrix.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PRINTED_WIDTH
        cells = matrix.locator("tbody :is(th, td)")
        assert cells.evaluate_all("cells => cells.every(c => c.scrollWidth <= c.clientWidth)")
        names = matrix.locator("thead span:not(.hidden)")
        widths = "names => names.map(n => n.clientWidth - n.closest('th').clientWidth)"
        assert max(names.evaluate_all(widths)) <= 0
        sizes = "cells => cells.map(c => parseFloat(getComputedStyle(c).fontSize))"
        assert min(cells.evaluate_all(sizes)) > MIN_FONT_SIZE
