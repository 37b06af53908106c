"""The argument parser of all commands: what it refuses, whatever the flag."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.core.flags import add_jobs
from benchmarks.core.flags import parser as benchmark_parser
from diffcls.cli import Parser
from diffcls.evaluate import parser as evaluate_parser
from diffcls.support.errors import UsageError


def parser() -> Parser:
    p = Parser(prog="diffcls test", argument_default=argparse.SUPPRESS)
    add = p.add_argument_group("flags").add_argument
    add("--count", type=int)
    add("--weight", type=float)
    add("--names", nargs="+")
    add("--text", "-t")
    add("--quiet", action="store_true")
    return p


@pytest.mark.parametrize("value", ["", " ", "\t", "\u2003"])
@pytest.mark.parametrize("flag", ["--count", "--weight", "--names", "--text"])
def test_empty_value_is_refused_by_the_flags_name(flag: str, value: str) -> None:
    for arguments in ([f"{flag}={value}"], [flag, value], [flag, value, "--quiet"]):
        with pytest.raises(UsageError, match=f"^{flag} is empty: "):
            parser().parse_args(arguments)


def test_empty_value_among_several_is_refused() -> None:
    with pytest.raises(UsageError, match="--names is empty: ''"):
        parser().parse_args(["--names", "a", "", "b"])


@pytest.mark.parametrize(
    "text",
    ["1_000", " 5", "5 ", "٣", "１２", "0x10", "1e3", "1.5", "nan", "+-1", "--", "5\n", "9" * 41],
)
def test_whole_number_is_in_plain_digits(text: str) -> None:
    with pytest.raises(UsageError, match="--count"):
        parser().parse_args([f"--count={text}"])


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1_0", " 1", "1e999", "٣", "1,5", ".", "e3"]
)
def test_number_is_finite_and_in_plain_digits(text: str) -> None:
    with pytest.raises(UsageError, match="--weight: not a finite number"):
        parser().parse_args([f"--weight={text}"])


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2.0), ("-0.5", -0.5), (".5", 0.5), ("1e-3", 1e-3), ("3.", 3.0)]
)
def test_usual_spellings_of_numbers_are_read(text: str, value: float) -> None:
    assert parser().parse_args([f"--weight={text}"]).weight == value
    assert parser().parse_args(["--count", "-12"]).count == -12


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b", "a\x1bb", "a\x85b"])
def test_control_character_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--text holds the control character"):
        parser().parse_args(["--text", text])


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(UsageError, match="--text is not valid UTF-8"):
        parser().parse_args(["--text=caf\udce9"])


def test_flag_of_several_values_is_given_once_and_of_one_value_wins_last() -> None:
    with pytest.raises(UsageError, match="--names: given twice"):
        parser().parse_args(["--names", "a", "--quiet", "--names", "b"])
    assert vars(parser().parse_args(["--count", "1", "--count", "2"])) == {"count": 2}
    with pytest.raises(UsageError, match="--method: given twice"):
        evaluate_parser().parse_args(["--method", "diffusion", "--method", "clip"])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--datset", "--dataset"),
        ("--datset=digits", "--dataset"),
        ("--Model", "--model"),
        ("-dataset", "--dataset"),
        ("--lim", "--limit"),
        ("--batchsize", "--batch-size"),
        ("--chek-model", "--check-model"),
        ("--output_dri", "--output-dir"),
    ],
)
def test_mistyped_flag_is_answered_with_the_one_that_was_meant(given: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"unknown flag: .*did you mean {meant}\\? see") as refused:
        evaluate_parser().parse_args([given, "digits", "--limit", "3"])
    assert repr(given.partition("=")[0].replace("_", "-")) in str(refused.value)


def test_flag_unlike_any_is_refused_without_a_guess() -> None:
    with pytest.raises(UsageError, match=r"^unknown flag: '--no-such-flag'; see"):
        evaluate_parser().parse_args(["--no-such-flag"])


def test_one_value_of_a_flag_of_several_runs_is_no_list() -> None:
    one = vars(evaluate_parser().parse_args("--dataset digits --model a --seed 3".split()))
    assert one == {"dataset": "digits", "model": "a", "seed": 3}
    several = vars(evaluate_parser().parse_args("--dataset digits pets --seed 3 4".split()))
    assert several == {"dataset": ["digits", "pets"], "seed": [3, 4]}
    # a script's own flag is overridden, but no value of several is lost
    assert vars(evaluate_parser().parse_args("--seed 1 --seed 2".split())) == {"seed": 2}
    for twice in ("--seed 1 2 --seed 3", "--seed 1 --seed 2 3"):
        with pytest.raises(UsageError, match="--seed: given twice"):
            evaluate_parser().parse_args(twice.split())


def test_benchmarks_share_the_parser() -> None:
    p = benchmark_parser("speed", "One.")
    add_jobs(p)
    for arguments in (["--output-dir="], ["--jobs", "１"]):
        with pytest.raises(UsageError, match=arguments[0].rstrip("=")):
            p.parse_args(arguments)
