"""Prompts: templates, CSV files, several prompts per class, and candidate labels of the user."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.properties import examples
from hypothesis import given
from hypothesis import strategies as st

from diffcls.data.class_names import normalise
from diffcls.data.prompts import PromptSet, check_labels
from diffcls.support.errors import DataError, DiffclsError, UsageError

NAMES = ("F/A-18", "Boeing 737-200", "american_pit bull")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


# ---- templates -----------------------------------------------------------------------------------


def test_every_template_is_filled_with_every_class_name_in_order() -> None:
    prompts = PromptSet.from_templates(["cat", "dog"], ["a photo of a {}.", "{}!"])
    assert prompts.prompts == ("a photo of a cat.", "cat!", "a photo of a dog.", "dog!")
    assert prompts.class_of == (0, 0, 1, 1)
    assert (len(prompts), prompts.n_classes) == (4, 2)
    assert [prompts.rows_of(k) for k in range(2)] == [(0, 1), (2, 3)]


@given(st.lists(st.text("ab{}%\\", min_size=1), min_size=2, max_size=4))
def test_class_name_is_inserted_unchanged(names: list[str]) -> None:
    prompts = PromptSet.from_templates(names, ["<{}>"])
    assert [p[1:-1] for p in prompts.prompts] == names


@pytest.mark.parametrize("template", ["a photo.", "{} and {}", "", "{0}", "{ }"])
def test_template_without_exactly_one_placeholder_is_an_error(template: str) -> None:
    with pytest.raises(
        UsageError, match=r"exactly one {} for the class.*a text with one"
    ) as caught:
        PromptSet.from_templates(["cat", "dog"], ["a {}", template])
    assert repr(template) in str(caught.value)


def test_empty_list_of_templates_is_an_error() -> None:
    with pytest.raises(UsageError, match="no template"):
        PromptSet.from_templates(["cat", "dog"], [])


@pytest.mark.parametrize(
    ("names", "prompts", "class_of", "message"),
    [
        (("cat",), ("a cat",), (0,), "two labels or more"),
        ((), (), (), "two labels or more"),
        (("cat", "dog"), ("a cat", "a dog"), (0,), "differ in number"),
        (("cat", "dog"), ("a cat", "a cat"), (0, 0), r"without a prompt.*\['dog'\]"),
        (("cat", "dog"), ("a", "b", "c"), (0, 1, 2), "prompts without a class"),
        (("cat", "dog"), ("a", "b", "c"), (0, 1, -1), "prompts without a class"),
        (("cat", " "), ("a", "b"), (0, 1), "empty label or prompt"),
        (("cat", "dog"), ("a", ""), (0, 1), "empty label or prompt"),
        (("cat", "dog"), ("a", None), (0, 1), "empty label or prompt"),
    ],
)
def test_inconsistent_classes_and_prompts_are_an_error(
    names: Any, prompts: Any, class_of: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        PromptSet(names, prompts, class_of)


def test_class_names_of_a_data_set_may_repeat() -> None:
    # as in ImageNet, where two names occur twice
    prompts = PromptSet.from_templates(["missile", "tank", "missile"], ["a {}"])
    assert prompts.class_of == (0, 1, 2)


# ---- CSV -----------------------------------------------------------------------------------------


def test_csv_is_joined_by_classidx_regardless_of_row_order(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a pit bull", "classname": "American-Pit_Bull", "classidx": 2},
        {"prompt": "a jet, F18", "classname": "f_a 18", "classidx": 0},
        {"prompt": "an airliner", "classname": "BOEING-737/200", "classidx": 1},
        {"prompt": "a fighter", "classname": "F/A-18", "classidx": 0},
    ]
    prompts = PromptSet.from_csv(write_csv(tmp_path / "p.csv", rows), NAMES)
    assert prompts.class_names == NAMES
    assert prompts.prompts == ("a pit bull", "a jet, F18", "an airliner", "a fighter")
    assert prompts.class_of == (2, 0, 1, 0)
    assert prompts.rows_of(0) == (1, 3)


def test_csv_may_lack_class_names_and_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("prompt,classidx\nun café,0\nb,1\n", encoding="utf-8-sig")
    assert PromptSet.from_csv(path, NAMES[:2]).prompts == ("un café", "b")


def test_csv_in_another_class_order_is_an_error_that_shows_both_orders(tmp_path: Path) -> None:
    shuffled = (NAMES[0], NAMES[2], NAMES[1])
    rows = [{"prompt": n, "classname": n, "classidx": k} for k, n in enumerate(shuffled)]
    with pytest.raises(DataError, match="classname of classidx 1 differs") as caught:
        PromptSet.from_csv(write_csv(tmp_path / "p.csv", rows), NAMES)
    assert ", ".join(shuffled) in str(caught.value)
    assert ", ".join(NAMES) in str(caught.value)


def test_error_shortens_long_lists_of_classes(tmp_path: Path) -> None:
    names = [f"class {k}" for k in range(1000)]
    rows = [{"prompt": n, "classname": n, "classidx": k} for k, n in enumerate(reversed(names))]
    with pytest.raises(DataError, match=r"\(1000 in all\)") as caught:
        PromptSet.from_csv(write_csv(tmp_path / "p.csv", rows), names)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--prompts: file is empty"),
        ("prompt,class\na,0\n", r"lacks the column classidx: \['prompt', 'class'\]"),
        ("classidx\n0\n", "lacks the column prompt"),
        ("prompt,classidx\na,0\n", "does not cover the data set's classes: 'classidx 0'"),
        (
            "prompt,classidx\na,0\nb,1\nc,2\n",
            "not cover .*'classidx 0, 1, 2'; allowed: 0 to 1",
        ),
        ("prompt,classidx\na,1\nb,2\n", "does not cover .*count classidx from 0"),
        ("prompt,classidx\n", "a header but no rows"),
        ("prompt,classidx\na,zero\nb,1\n", "line 2: classidx is not a whole number: 'zero'"),
        ("prompt,classidx\na,0\nb\n", "line 3 has 1 fields, the header has 2: 'b'"),
        ("prompt,classidx\na,0\n,1\n", "line 3: empty prompt"),
    ],
)
def test_malformed_csv_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((DataError, UsageError), match=message):
        PromptSet.from_csv(path, ["cat", "dog"])


def test_missing_or_non_utf8_csv_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--prompts: file not found"):
        PromptSet.from_csv(tmp_path / "none.csv", NAMES)
    (tmp_path / "latin.csv").write_bytes("prompt,classidx\ncafé,0\n".encode("latin-1"))
    with pytest.raises(DataError, match="--prompts: cannot read file"):
        PromptSet.from_csv(tmp_path / "latin.csv", NAMES)


# ---- properties ----------------------------------------------------------------------------------


CELLS = st.text(st.sampled_from([*'ab01 ,;"_-é\t\n']) | st.characters(codec="utf-8"), max_size=6)
NUMBERS = st.integers(-1, 4).map(str) | st.sampled_from(["0_1", "1.0", " 1", "٣", "", "one"])


@examples(
    rows=st.lists(st.tuples(CELLS, CELLS | st.sampled_from(NAMES), NUMBERS), max_size=5),
    columns=st.permutations(["prompt", "classname", "classidx"]).flatmap(
        lambda names: st.integers(2, 3).map(lambda count: names[:count])
    ),
    extra=st.lists(CELLS, max_size=2),
)
def test_prompts_of_a_file_are_those_of_its_rows_or_refused(
    tmp_path: Path, rows: list[tuple[str, str, str]], columns: list[str], extra: list[str]
) -> None:
    path = tmp_path / "p.csv"
    keyed = [dict(zip(("prompt", "classname", "classidx"), row, strict=True)) for row in rows]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *([row[name] for name in columns] for row in keyed), extra])
    whole = {"prompt", "classidx"} <= set(columns) and not any(map(str.strip, extra))
    try:
        prompts = PromptSet.from_csv(path, NAMES)
    except DiffclsError as error:
        assert "\n" not in str(error)
        return
    used = [row for row in keyed if any(row[name].strip() for name in columns)]
    assert whole and prompts.prompts == tuple(row["prompt"] for row in used)
    assert [str(k) for k in prompts.class_of] == [row["classidx"].strip() for row in used]
    if "classname" in columns:
        pairs = zip(prompts.class_of, used, strict=True)
        assert all(normalise(NAMES[k]) == normalise(row["classname"]) for k, row in pairs)


# ---- averaging -----------------------------------------------------------------------------------


@given(st.data())
def test_average_is_the_mean_error_over_the_prompts_of_a_class(data: st.DataObject) -> None:
    classes = data.draw(st.integers(2, 5))
    class_of = data.draw(
        st.lists(st.integers(0, classes - 1), max_size=6)
        .map(lambda extra: [*range(classes), *extra])
        .flatmap(st.permutations)
    )
    prompts = PromptSet(
        tuple(map(str, range(classes))), tuple("p" * len(class_of)), tuple(class_of)
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    errors = rng.random((len(class_of), 7)).astype(np.float32)
    errors[rng.random(errors.shape) < 0.2] = np.nan
    averaged = prompts.average(errors)
    assert averaged.dtype == np.float32
    for k in range(classes):
        rows = errors[np.array(class_of) == k]
        # NaN if any prompt of the class was not evaluated, as in a plain mean
        assert averaged[k] == pytest.approx(rows.mean(axis=0), rel=1e-6, nan_ok=True)


def test_average_is_in_the_order_of_the_classes() -> None:
    prompts = PromptSet(("a", "b"), ("of b", "of a"), (1, 0))
    assert prompts.average(np.float32([[2.0], [1.0]])).tolist() == [[1.0], [2.0]]


# ---- candidate labels ----------------------------------------------------------------------------


def test_valid_labels_are_returned_unchanged() -> None:
    assert check_labels(["Cat", "dog_food"]) == ("Cat", "dog_food")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat"], "two labels or more"),
        ([], "two labels or more"),
        ("cat, dog", "single text"),
        (["cat", "dog", "cat"], r"duplicate labels: \['cat'\]"),
        (["pit bull", "dog", " pit  bull"], "duplicate labels"),
        (["Three", "seven", "three"], r"duplicate labels: \['Three', 'three'\]"),
        (["caf\u00e9", "dog", "cafe\u0301"], "duplicate labels"),
        (["cat", " "], "empty name among the labels"),
        (["cat", 3], "is not a text: 3"),
        (["cat", None], "is not a text"),
    ],
)
def test_duplicate_single_or_non_text_labels_are_an_error(labels: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_labels(labels)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("F/A-18", "f_a 18", True),
        ("american_bulldog", "American Bulldog", True),
        ("Boeing 737-200", "boeing_737_200", True),
        (" cat ", "Cat", True),
        ("Boeing 737-200", "Boeing 737-300", False),
        ("DC-3", "DC-30", False),
        ("caf\u00e9", "cafe", False),
        ("caf\u00e9", "Cafe\u0301", True),
    ],
)
def test_names_are_compared_without_case_space_underscore_hyphen_and_slash(
    one: str, other: str, same: bool
) -> None:
    assert (normalise(one) == normalise(other)) is same
