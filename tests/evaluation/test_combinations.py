"""Combinations of data sets, models and seeds: what is read, and what is refused beforehand."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffcls
from diffcls.evaluation import run
from diffcls.evaluation.combinations import read_combinations
from diffcls.evaluation.options import read_options
from diffcls.evaluation.run import FailedRuns
from diffcls.models.kept import kept, models_kept
from diffcls.support.errors import DataError, DiffclsError, ModelError, UsageError


def test_every_combination_is_a_run_in_the_order_given() -> None:
    combinations = read_combinations(
        {"dataset": ["digits", "pets"], "model": ["a", "b"], "seed": (3, 1), "method": "diffusion"}
    )
    shown = [(r.options.dataset, r.options.model, r.options.seed) for r in combinations.runs]
    assert shown == [(d, m, s) for d in ("digits", "pets") for m in ("a", "b") for s in (3, 1)]
    assert str(combinations) == "2 data sets × 2 models × 2 seeds × 1 method"


def test_runs_of_one_model_follow_one_another() -> None:
    combinations = read_combinations({"dataset": ["digits", "pets"], "model": ["a", "b"]})
    models = [run.options.model for run in combinations.by_model()]
    assert models == ["a", "a", "b", "b"]
    # without a model each data set has its own: digits has one, both of scenes another
    default = read_combinations({"dataset": ["scenes/pairs", "digits", "scenes/counting"]})
    order = [run.options.dataset for run in default.by_model()]
    assert order == ["scenes/pairs", "scenes/counting", "digits"]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"dataset": "digits"},
        {"dataset": ["digits"], "seed": [0]},
        {"seed": 3, "model": "scenes", "limit": 5},
        {"method": ("diffusion", "clip"), "draws": 5},
    ],
)
def test_single_values_are_the_options_of_one_evaluation(arguments: dict[str, Any]) -> None:
    combinations = read_combinations(arguments)
    plain = {k: v[0] if isinstance(v, list) else v for k, v in arguments.items()}
    assert combinations.is_single
    assert {run.options for run in combinations.runs} == {read_options(plain)}
    assert [run.method for run in combinations.runs] == list(combinations.options.method)


def test_seeds_may_be_a_range_or_an_array() -> None:
    for seeds in (range(3), np.arange(3), [0, 1, 2]):
        read = [run.options.seed for run in read_combinations({"seed": seeds}).runs]
        assert read == [0, 1, 2] and {type(seed) for seed in read} == {int}
    (one,) = read_combinations({"seed": np.int64(5)}).runs
    assert one.options.seed == 5 and type(one.options.seed) is int


def test_a_pipeline_is_one_model() -> None:
    class Pipeline:
        """Stands for a pipeline of diffusers."""

    first, second = Pipeline(), Pipeline()
    combinations = read_combinations({"model": [first, second]})
    assert [run.options.model for run in combinations.runs] == [first, second]
    assert combinations.runs[0].kind != combinations.runs[1].kind
    assert "--model Pipeline" in str(combinations.runs[0])


def test_clip_beside_others_does_not_run_once_per_model() -> None:
    given = {"model": ["digits", "scenes"], "method": ("diffusion", "clip"), "seed": [0, 1]}
    runs = read_combinations(given).runs
    assert [(r.method, r.options.model) for r in runs if r.options.seed == 0] == [
        ("diffusion", "digits"),
        ("clip", "digits"),
        ("diffusion", "scenes"),
    ]
    alone = read_combinations({"model": ["clip-digits", "clip-scenes"], "method": "clip"}).runs
    assert [r.options.model for r in alone] == ["clip-digits", "clip-scenes"]


def test_local_options_are_for_the_data_sets_that_read_them() -> None:
    given = {"dataset": ["digits", "cifar10"], "data_root": "data"}
    digits, cifar10 = (run.options for run in read_combinations(given).runs)
    assert digits.data_root is None and cifar10.data_root == "data"
    # the options of the run are those of a single command, and so is its fingerprint
    assert digits == read_options({"dataset": "digits"})


def test_a_budget_is_shared_out() -> None:
    runs = read_combinations({"seed": [0, 1, 2], "budget": "1h30m"}).runs
    assert {run.options.budget for run in runs} == {"1800.000s"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": ["digits", "digits"]}, "--dataset has a value twice: 'digits'"),
        ({"dataset": ["food", "food101"]}, "--dataset has a value twice: 'food101'"),
        ({"model": ["a", "a"]}, "--model has a value twice: 'a'"),
        ({"model": [Fraction(1, 2)] * 2}, "--model has a value twice: 'in-memory Fraction'"),
        ({"dataset": {"digits"}}, "--dataset has no order: .*'digits'.*give a list"),
        ({"seed": {0: 1}}, "--seed has no order"),
        ({"seed": [1, 1]}, "--seed has a value twice: 1"),
        ({"seed": []}, "--seed is empty"),
        ({"dataset": ["digits", ""]}, "is empty"),
        ({"seed": [0, -1]}, "--seed out of range: -1.*refused for .*--seed -1"),
        ({"seed": [0, "1"]}, "--seed out of range: '1'"),
        ({"seed": [0, 1.5]}, "--seed out of range: 1.5"),
        ({"dataset": ["digits", "nosuch"]}, "unknown dataset: 'nosuch'.*refused for"),
        ({"model": ["digits", "nosuch"]}, "unknown model: 'nosuch'.*refused for .*--model nosuch"),
        (
            {"dataset": ["digits", "scenes/pairs"], "data_root": "x"},
            "^--data-root is not read by the data set digits",
        ),
        ({"dataset": ["digits", "scenes/pairs"], "guidance": 2.0}, "--guidance has no effect"),
        (
            {"dataset": ["digits", "scenes/pairs"], "split": "train"},
            "unknown split of scenes/pairs: 'train'.*refused for --dataset scenes/pairs",
        ),
        (
            {"dataset": ["digits", "folder:nowhere"], "model": "digits"},
            "nowhere.*refused for --dataset folder:nowhere",
        ),
        (
            {"dataset": ["digits", "scenes/pairs"], "method": "sd-features"},
            "scenes/pairs has no labelled images.*refused for --dataset scenes/pairs",
        ),
        (
            {"dataset": ["digits", "scenes/pairs"], "method": "synthetic"},
            "classes that all images share.*refused for --dataset scenes/pairs",
        ),
        (
            {"seed": [0, 1], "method": ("diffusion", "clip"), "save_errors": "tables"},
            "--save-errors does not apply: the method 'clip'",
        ),
        (
            {"method": ("diffusion", "clip"), "save_errors": "tables"},
            "--save-errors does not apply: the method 'clip'",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name_before_anything_starts(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, DataError), match=message):
        diffcls.run_evaluation(**arguments, limit=2, quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_failed_runs_are_named_with_their_messages() -> None:
    error = FailedRuns([{"dataset": "digits"}], {"--seed 1": "no", "--seed 2": "no"})
    assert str(error) == "2 of 3 runs failed: --seed 1: no; --seed 2: no"
    assert isinstance(error, DiffclsError) and error.exit_status == 1


def test_a_loader_keeps_its_last_model_within_the_context_only() -> None:
    loaded: list[str] = []

    @kept
    def load(name: str, size: int = 1) -> list[str]:
        loaded.append(name)
        return [name]

    assert load("a") is not load("a")
    with models_kept():
        first = load("a")
        assert load("a") is first
        assert load("a", size=2) is not first
        assert load("b") == ["b"] and load("a") is not first
    load("a")
    assert loaded == ["a", "a", "a", "a", "b", "a", "a"]


def test_a_model_whose_precision_changed_is_loaded_again() -> None:
    import torch

    class Model:
        def __init__(self) -> None:
            self.pipeline = self
            self.components = {"text_encoder": torch.nn.Linear(2, 2).half(), "tokenizer": None}

    @kept
    def load(name: str) -> Model:
        return Model()

    with models_kept():
        model = load("a")
        assert load("a") is model
        model.components["text_encoder"].float()
        assert load("a") is not model


def test_every_failed_run_of_models_with_one_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pipeline:
        """Stands for a pipeline of diffusers; both are named by their class."""

    def fail(*_: object) -> None:
        raise ModelError("cannot be loaded")

    monkeypatch.setattr(run, "check_names", lambda _: None)
    monkeypatch.setattr(run, "make_plan", fail)
    monkeypatch.setattr(run, "finished_row", lambda *_: None)
    with pytest.raises(FailedRuns, match="2 of 2 runs failed") as failed:
        diffcls.run_evaluation(
            model=[Pipeline(), Pipeline()], limit=2, quiet=True, output_dir=str(tmp_path)
        )
    assert len(failed.value.failures) == 2
