"""Evaluation with --class-bias and --combine: their fits, their rows, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import text_gaussian

import diffcls
from diffcls.classifiers import METHODS, class_prior_fit, fit_images
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset, load_split
from diffcls.data.subsets import sample
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts, choose_images
from diffcls.support.cache import read_arrays
from diffcls.support.errors import UsageError

BIAS: dict[str, Any] = {"class_bias": 12}
CLIP: dict[str, Any] = {"combine": "clip"}
PRIORS = pytest.mark.parametrize("prior", [BIAS, CLIP], ids=["class bias", "combination"])


@pytest.fixture(autouse=True)
def analytic_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_prior_fit, "COMBINATION_IMAGES", 12)
    text_gaussian.use(monkeypatch)


def options(output: Path, **more: Any) -> dict[str, Any]:
    few = {"limit": 10, "draws": 4, "quiet": True, "check_model": False}
    return {"output_dir": str(output), **few, **more}


def records(output: Path, fingerprint: str) -> dict[str, dict[str, Any]]:
    (path,) = (output / "runs" / fingerprint).glob("records-*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {one["image_id"]: one for one in lines}


def stored_fit(output: Path) -> dict[str, Any]:
    (path,) = (output / "fits").glob("class-prior-*.npz")
    return read_arrays(path, "cached fit")


def test_scores_are_those_without_the_bias_plus_the_bias(tmp_path: Path) -> None:
    exhaustive: dict[str, Any] = {"search": "exhaustive"}
    (plain,) = diffcls.run_evaluation(**options(tmp_path, **exhaustive))
    (row,) = diffcls.run_evaluation(**options(tmp_path, **exhaustive, **BIAS))
    assert row["fingerprint"] != plain["fingerprint"]
    assert (plain["setting"], row["setting"]) == ("draws=4", "draws=4 class_bias=12")
    assert row["supervision"] == plain["supervision"]  # no label is read
    assert row["evaluations_per_image"] == plain["evaluations_per_image"] == 40
    header = json.loads((tmp_path / "runs" / row["fingerprint"] / "run.json").read_text())
    bias = stored_fit(tmp_path)["bias"] / header["posterior_scale"]
    assert np.ptp(bias) > 0 and bias.mean() == pytest.approx(0, abs=1e-9)
    before = records(tmp_path, plain["fingerprint"])
    for image_id, one in records(tmp_path, row["fingerprint"]).items():
        expected = np.array(before[image_id]["scores"]) + bias
        assert one["scores"] == pytest.approx(expected, abs=1e-6)
        assert one["ranking"][0] == expected.argmax()


def test_scores_are_logarithms_of_the_product_with_clip(tmp_path: Path) -> None:
    exhaustive: dict[str, Any] = {"search": "exhaustive"}
    (plain,) = diffcls.run_evaluation(**options(tmp_path, **exhaustive))
    (clip,) = diffcls.run_evaluation(
        method="clip", output_dir=str(tmp_path), limit=10, quiet=True, check_model=False
    )
    (row,) = diffcls.run_evaluation(**options(tmp_path, **exhaustive, **CLIP))
    assert row["supervision"] == "hybrid" and row["setting"] == "draws=4 combine=clip"
    assert row["evaluations_per_image"] == 40
    fit = stored_fit(tmp_path)
    headers = [
        json.loads((tmp_path / "runs" / r["fingerprint"] / "run.json").read_text())
        for r in (row, plain)
    ]
    scale, own_scale = (header["posterior_scale"] for header in headers)
    assert scale == pytest.approx(float(fit["own"]) * own_scale)
    ours, theirs = (records(tmp_path, r["fingerprint"]) for r in (plain, clip))
    for image_id, one in records(tmp_path, row["fingerprint"]).items():
        log_p = scale * np.array(ours[image_id]["scores"])
        log_p += float(fit["other"]) * np.array(theirs[image_id]["scores"])
        gap = scale * np.array(one["scores"]) - log_p
        assert gap == pytest.approx(gap[0], abs=1e-2)  # but for a constant of the image


@PRIORS
def test_repeated_run_fits_nothing_and_other_settings_are_other_runs(
    prior: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(tmp_path, **prior)
    first = diffcls.run_evaluation(**given)
    for name in ("fit_bias", "fit_combination"):
        monkeypatch.setattr(class_prior_fit, name, lambda *_: pytest.fail("fitted again"))
    assert diffcls.run_evaluation(**given) == first
    others: list[dict[str, Any]] = [
        {"class_bias": None, "combine": None},
        {"class_bias": 9, "combine": None},
    ]
    dry = [diffcls.run_evaluation(**{**given, **o, "dry_run": True})[0] for o in others]
    assert len({row["fingerprint"] for row in [*first, *dry]}) == 3


@PRIORS
def test_cost_of_the_fit_is_stated(
    prior: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dry,) = diffcls.run_evaluation(**options(tmp_path, **prior, dry_run=True))
    assert dry["fit_evaluations"] == 12 * 40
    assert not (tmp_path / "fits").exists()
    diffcls.run_evaluation(**options(tmp_path, **{**prior, "quiet": False}))
    shown = capsys.readouterr().err
    spent = int(stored_fit(tmp_path)["evaluations"])
    assert 12 * 20 <= spent <= 12 * 40
    assert "diffusion is fitted first: 480 evaluations" in shown
    assert f"class prior fitted on 12 images by {spent} evaluations" in shown


@pytest.mark.parametrize(("prior", "split"), [(BIAS, "train"), (CLIP, "validation")])
def test_fit_never_reads_a_test_image(
    prior: dict[str, Any], split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = EvaluationOptions(**options(tmp_path, **prior))
    data, _ = choose_images(read)
    prompts = build_prompts(read, data)
    loaded: list[str] = []

    def checked(options: EvaluationOptions, of: str) -> Dataset:
        loaded.append(of)
        return load_split(options, of)

    monkeypatch.setattr(fit_images, "load_split", checked)
    built = METHODS.load("diffusion").build(read, catalog.find("digits"), prompts)
    assert built.method.posterior_scale is not None
    assert loaded == [split]


def test_sample_of_unlabelled_images_reads_no_label() -> None:
    data = load_dataset("digits", "train")
    part, subset = sample(data, 50)
    blind = Dataset(
        **{
            **vars(data),
            "items": tuple(type(i)(i.image_id, 0, i.open) for i in data.items),
        }
    )
    assert [i.image_id for i in sample(blind, 50)[0].items] == [i.image_id for i in part.items]
    assert subset.startswith("50:") and sample(data, 51)[1] != subset
    with pytest.raises(UsageError, match=r"out of range: 1098; allowed: 1 to 1,097 images"):
        sample(data, 1098)


Refusal = tuple[dict[str, Any], str]
REFUSALS: list[Refusal] = [
    ({**BIAS, "split": "train"}, "--class-bias is fitted on other images, of split train"),
    ({**CLIP, "split": "validation"}, "--combine is fitted on other images, of split validation"),
    ({**BIAS, "dataset": "objectnet"}, "of split train: 'objectnet has no such split'"),
    ({**BIAS, "dataset": "scenes/pairs"}, "--class-bias is fitted on other images"),
    ({**CLIP, "dataset": "scenes/pairs"}, "need classes that all images share"),
    ({**BIAS, **CLIP}, "--class-bias and --combine exclude each other"),
    ({**BIAS, "reject": True}, "--class-bias and --reject exclude each other"),
    ({**BIAS, "multi_label": True}, "--class-bias"),
    ({**CLIP, "budget": "1h"}, "--combine and --budget exclude each other"),
    ({**CLIP, "save_errors": "tables"}, "--combine and --save-errors exclude each other"),
    ({**BIAS, "vote": "log"}, "--class-bias and --vote exclude each other"),
    ({**BIAS, "aggregate": "prompts"}, "--class-bias and --aggregate exclude each other"),
    ({**CLIP, "clip_model": "test_vit"}, "unknown CLIP"),
    ({"combine": "dino"}, "unknown --combine: 'dino'"),
    (
        {"class_bias": 2000},
        "--class-bias out of range: 2000; allowed: 1 to 1,097, the images of split train",
    ),
    ({"class_bias": 0}, "--class-bias"),
    ({"clip_model": "clip-digits"}, "clip-model has no effect here.*--combine clip"),
]


@pytest.mark.parametrize(("given", "message"), REFUSALS)
def test_combination_without_a_meaning_is_refused(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(**options(tmp_path, **given))
    assert not (tmp_path / "leaderboard.csv").exists()


@PRIORS
def test_search_with_a_screen_and_several_seeds_have_priors_too(
    prior: dict[str, Any], tmp_path: Path
) -> None:
    rows = diffcls.run_evaluation(
        **options(tmp_path, **prior, search="gradient", candidates=3, seed=[0, 1])
    )
    assert len({row["fingerprint"] for row in rows}) == 2
    assert all(row["n_scored"] == 10 for row in rows)
