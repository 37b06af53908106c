"""Summary of a person's own data: classes, prompts, and what was passed over."""

from __future__ import annotations

import pytest
from helpers.datasets import no_image

from diffcls.data.dataset import Dataset, Item
from diffcls.data.load import load_dataset
from diffcls.data.own_data import announce, describe, summary
from diffcls.data.prompts import PromptSet


def summary_of(names: list[str], templates: tuple[str, ...] = ("a {}.",)) -> list[str]:
    items = (Item("0", 0, no_image),)
    data = Dataset("folder:x", "test", tuple(names), items, "r")
    return summary("folder:x", data, PromptSet.from_templates(names, templates))


def test_ten_classes_are_shown_and_a_prompt_of_two_classes() -> None:
    lines = summary_of([f"c{i}" for i in range(25)], ("a {}.", "the {}."))
    shown = ", ".join(f"c{i}" for i in range(10))
    assert lines == [f"25 classes: {shown}, … (25 in all)", "prompts: 'a c0.', 'a c1.'"]


def test_long_names_with_line_breaks_stay_on_one_line() -> None:
    lines = summary_of(["a\nb", "x" * 500])
    assert lines[0] == f"2 classes: a b, {'x' * 59}…"
    assert all("\n" not in line and len(line) < 160 for line in lines)


def test_counts_come_largest_first_and_ten_kinds_at_most() -> None:
    assert describe({"*.b": 1, "*.a": 1, "*.c": 2000}) == "2,000 *.c, 1 *.a, 1 *.b"
    assert describe({f"*.{i:02d}": 1 for i in range(30)}).endswith("1 *.09, … (30 in all)")


@pytest.mark.parametrize("name", ["digits", "scenes/attributes"])
def test_data_sets_of_the_catalog_have_no_summary(name: str) -> None:
    data = load_dataset(name)
    assert summary(name, data, PromptSet.from_templates(data.class_names, ("{}",))) == []


def test_without_prompts_classes_and_what_was_passed_over_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = (Item("0", 0, no_image),)
    announce(
        "folder:x", Dataset("folder:x", "test", ("a", "b"), items, "r", passed_over={"*.b": 3})
    )
    assert capsys.readouterr().err == "diffcls: 2 classes: a, b\ndiffcls: passed over: 3 *.b\n"
