"""Exceptions: their tree, messages and exit statuses."""

from __future__ import annotations

import pickle

import pytest

from diffcls.support.errors import (
    DataError,
    DiffclsError,
    ModelError,
    RecordError,
    UsageError,
    unknown_name,
)

STATUS = {DiffclsError: 1, RecordError: 1, UsageError: 2, DataError: 2, ModelError: 2}


@pytest.mark.parametrize(
    ("error", "status"), STATUS.items(), ids=lambda x: getattr(x, "__name__", x)
)
def test_exit_status_is_2_for_bad_input_and_1_for_a_failed_run(
    error: type[DiffclsError], status: int
) -> None:
    assert error.exit_status == status
    assert error("it broke").exit_status == status


def test_every_error_of_the_tree_is_covered_above() -> None:
    tree, todo = {DiffclsError}, [DiffclsError]
    while todo:
        new = set(todo.pop().__subclasses__())
        tree |= new
        todo += new
    assert {error for error in tree if error.__module__ == "diffcls.support.errors"} == set(STATUS)


def test_bad_input_is_a_value_error_and_a_failed_run_is_not() -> None:
    assert {e for e in STATUS if issubclass(e, ValueError)} == {UsageError, DataError, ModelError}


def test_message_has_problem_given_allowed_and_remedy_in_this_order() -> None:
    error = UsageError(
        "unknown search", given="rasing", allowed=["racing", "paper"], todo="see --help"
    )
    assert str(error) == "unknown search: 'rasing'; allowed: racing, paper; see --help"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "no images"),
        ({"given": 0}, "no images: 0"),
        ({"given": ""}, "no images: ''"),
        ({"given": float("nan")}, "no images: nan"),
        ({"allowed": "one or more"}, "no images; allowed: one or more"),
        ({"allowed": (n for n in (1, 2))}, "no images; allowed: 1, 2"),
        ({"todo": "give a folder"}, "no images; give a folder"),
    ],
)
def test_message_has_only_the_given_parts(parts: dict[str, object], message: str) -> None:
    assert str(DataError("no images", **parts)) == message


def test_given_value_cannot_break_the_message_into_lines() -> None:
    assert "\n" not in str(UsageError("unknown data set", given="a\nb\x1b[2J"))
    assert "\x1b" not in str(UsageError("unknown data set", given="a\nb\x1b[2J"))


@pytest.mark.parametrize("error", STATUS, ids=lambda e: e.__name__)
def test_error_can_be_sent_from_a_worker_process(error: type[DiffclsError]) -> None:
    sent = error("shard broken", given=3, allowed="0 to 2", todo="run it again")
    received = pickle.loads(pickle.dumps(sent))
    assert type(received) is error
    assert str(received) == str(sent)


@pytest.mark.parametrize("typed", ["rasing", "Racing", "RACING", "racin"])
def test_unknown_name_suggests_the_closest_name(typed: str) -> None:
    error = unknown_name("search", typed, ["racing", "paper", "exhaustive"])
    assert isinstance(error, UsageError)
    assert str(error) == (
        f"unknown search: {typed!r}; allowed: racing, paper, exhaustive; did you mean 'racing'?"
    )


@pytest.mark.parametrize("typed", ["", "zzzz", "0"])
def test_unknown_name_without_a_close_one_has_no_suggestion(typed: str) -> None:
    error = unknown_name("search", typed, ["racing", "paper"])
    assert str(error) == f"unknown search: {typed!r}; allowed: racing, paper"


def test_unknown_name_reads_its_names_once() -> None:
    names = iter(["racing", "paper"])
    assert str(unknown_name("search", "pape", names)) == (
        "unknown search: 'pape'; allowed: racing, paper; did you mean 'paper'?"
    )
