"""Classes that share a prompt: refused for a person's own, warned of for a built-in data set."""

from __future__ import annotations

import pytest
from helpers.log_messages import own_messages
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.data.distinct_prompts import check_distinct
from diffcls.data.prompts import PromptSet
from diffcls.support.errors import UsageError


def prompts(*texts: str, own: bool = True, names: tuple[str, ...] = ()) -> PromptSet:
    names = names or tuple(f"name {k}" for k in range(len(texts)))
    return PromptSet(names, texts, tuple(range(len(texts))), own=own)


def test_shared_prompt_of_a_persons_own_classes_is_refused_by_name() -> None:
    given = prompts("a digit", "a three", "a digit")
    with pytest.raises(UsageError, match="2 classes share a prompt and cannot be") as caught:
        check_distinct(given, given.prompts)
    assert "name 0 (class 0) and name 2 (class 2): a digit" in str(caught.value)


def test_prompts_that_differ_as_texts_but_not_for_the_model_are_shown_both() -> None:
    given = prompts("a Three", "a seven", "a three")
    check_distinct(given, given.prompts)
    with pytest.raises(UsageError, match=r"class 0.*class 2.*: a Three and a three"):
        check_distinct(given, [text.lower() for text in given.prompts])


def test_shared_prompt_of_a_built_in_data_set_is_warned_of_by_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = prompts("a missile", "a crane", "a missile", own=False, names=("missile", "b", "c"))
    check_distinct(given, given.prompts, warn=False)
    assert not own_messages(caplog)
    check_distinct(given, given.prompts)
    (message,) = own_messages(caplog)
    assert "2 classes of the data set share a prompt" in message
    assert "missile (class 0) and c (class 2)" in message


def test_duplicate_names_of_a_built_in_data_set_may_share_the_prompts_of_a_file(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # the published prompts of ImageNet, two of whose names occur twice
    given = prompts("a missile", "a crane", "a missile", names=("missile", "crane", "Missile"))
    check_distinct(given, given.prompts)
    assert "missile (class 0) and Missile (class 2)" in own_messages(caplog)[0]


def test_several_prompts_of_one_class_may_be_equal() -> None:
    given = PromptSet(("a", "b"), ("x", "x", "y"), (0, 0, 1))
    check_distinct(given, given.prompts)


@examples(
    keys=st.lists(st.integers(0, 4), min_size=2, max_size=8),
    classes=st.lists(st.integers(0, 3), min_size=8, max_size=8),
)
def test_classes_are_refused_if_and_only_if_two_share_a_key(
    keys: list[int], classes: list[int]
) -> None:
    class_of = [0, 1, *classes][: len(keys)]
    indices = {k: i for i, k in enumerate(sorted(set(class_of)))}
    given = PromptSet(
        tuple(f"name {k}" for k in indices),
        tuple(map(str, range(len(keys)))),
        tuple(indices[k] for k in class_of),
    )
    pairs = list(zip(keys, class_of, strict=True))
    shared = any(a == b and i != j for a, i in pairs for b, j in pairs)
    if shared:
        with pytest.raises(UsageError):
            check_distinct(given, keys)
    else:
        check_distinct(given, keys)
