"""Use of options: each is read by something, and refused where nothing reads it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import diffcls
from diffcls.data import catalog
from diffcls.data.option_use import LOCAL_OPTIONS, READS, root_for
from diffcls.evaluation.option_use import RUN_OPTIONS, readers
from diffcls.evaluation.options import EvaluationOptions, read_options
from diffcls.evaluation.plan import check_names
from diffcls.support.errors import UsageError


def test_every_option_is_read_by_every_run_a_method_or_a_data_set() -> None:
    fields = {field.name for field in dataclasses.fields(EvaluationOptions)}
    assert fields <= RUN_OPTIONS | LOCAL_OPTIONS | readers().keys()
    assert not RUN_OPTIONS & readers().keys()
    assert readers().keys() <= fields


def test_every_source_of_data_declares_what_it_reads() -> None:
    sources = {spec.source for spec in catalog.SPECS.values()} - {None}
    assert sources | {row.source for row in catalog.PREFIXES.values()} <= READS.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance": 2.0}, "--guidance has no effect here, it is of --method synthetic; remove"),
        ({"images_per_class": 10}, "--images-per-class has no effect"),
        ({"reference": "chance"}, "--reference has no effect here, it is of --method reference"),
        ({"clip_model": "clip-digits"}, "of --method clip and --search propose"),
        (
            {"method": "clip", "draws": 40},
            "--draws has no effect here, it is of --method diffusion",
        ),
        ({"method": "clip", "vote": "mean"}, "--vote has no effect"),
        ({"method": "clip", "weighting": "uniform"}, "--weighting has no effect"),
        ({"method": "clip", "budget": "1h"}, "--budget has no effect"),
        ({"method": "clip", "save_errors": "tables"}, "--save-errors has no effect"),
        ({"method": "clip", "img_size": 32}, "--img-size has no effect"),
        ({"method": "reference", "template": "a {}"}, "--template has no effect"),
        ({"method": "reference", "dtype": "float16"}, "--dtype has no effect"),
        ({"method": "sd-features", "search": "racing"}, "--search has no effect"),
        ({"data_root": "data"}, "--data-root is not read by the data set digits; remove"),
        ({"dataset": "scenes/pairs", "data_root": "d"}, "--data-root is not read"),
        ({"dataset": "folder:photos", "data_root": "d"}, "--data-root is not read"),
        ({"image_column": "img"}, "--image-column is not read"),
        ({"method": ("clip", "reference"), "model": "digits"}, "does not say of which method"),
        (
            {"method": "clip", "model": "clip-digits", "clip_model": "clip-scenes"},
            "--model and --clip-model name the same model twice",
        ),
    ],
)
def test_option_that_nothing_reads_is_refused_by_name(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"search": "propose", "clip_model": "clip-digits"},
        {"method": ("diffusion", "clip"), "draws": 5, "clip_model": "clip-digits"},
        {"method": ("diffusion", "synthetic"), "guidance": 1.0},
        {"method": "reference", "model": "chance"},
        {"method": "clip", "model": "clip-digits", "draws": None, "seed": 1, "device": "cpu"},
        {"dataset": "pets", "data_root": "data", "image_column": "i"},
        {"dataset": "parquet:x.parquet", "model": "digits", "label_column": "kind"},
        {"dataset": "cifar10", "data_root": "data"},
        {"extra": "a note", "load_stats": True, "n_workers": 2, "worker_idx": 1},
        {"shard": "1/2", "n_workers": 2, "worker_idx": 1},
    ],
)
def test_option_that_something_reads_is_accepted(arguments: dict[str, Any]) -> None:
    check_names(read_options(arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": ("clip", "clip")}, "--method names a method twice: 'clip'"),
        (
            {"shard": "0/2", "n_workers": 2, "worker_idx": 1},
            "--shard and --worker-idx contradict",
        ),
        ({"template": "a {} of {x}"}, "exactly one {}"),
        ({"template": "a {} }"}, "exactly one {}"),
        ({"budget": "1 h"}, "--budget cannot be read"),
        ({"budget": "٣h"}, "--budget cannot be read"),
        ({"budget": "9999999h"}, "--budget cannot be read"),
        ({"device": "cuda:-1"}, "unknown device"),
        ({"device": "meta"}, "unknown device"),
        ({"threads": 20_000}, "--threads out of range"),
        ({"img_size": 10**30}, "--img-size out of range"),
        ({"seed": -1}, "--seed out of range"),
        ({"seed": 2**63}, "--seed out of range"),
        ({"limit": 10**30}, "--limit out of range"),
        ({"model": ""}, "--model is empty"),
        ({"output_dir": ""}, "--output-dir is empty"),
        ({"search": ""}, "--search is empty"),
        ({"method": ()}, "--method is empty"),
        ({"stages": ("５:1",)}, "cannot parse --stages"),
    ],
)
def test_contradictory_or_impossible_options_are_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_shared_root_is_for_data_sets_that_read_one() -> None:
    assert root_for("digits", "data") is None
    assert root_for("scenes/pairs", "data") is None
    assert root_for("cifar10", "data") == root_for("flowers", "data") == "data"
