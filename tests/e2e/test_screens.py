"""Searches with a screen, at the command line: refusals, results, costs, and resuming."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny_families
from helpers.interrupted_runs import answers, cut_off, lines
from helpers.refusals import refusal

import diffcls
from diffcls import evaluate, replay
from diffcls.evaluation.replay import replay as replayed
from diffcls.models.loading import WEIGHTS
from diffcls.search.propose import UNPROPOSED_ERROR
from diffcls.support.errors import UsageError

Pipelines = Callable[[str], Path]
NETWORK = ("gradient",)
ALL = (*NETWORK, "propose")
REFUSED = (*ALL, "learned")  # its runs are in tests/evaluation/test_learned_screen.py


def run(out: Path, pipelines: Pipelines, **changes: Any) -> dict[str, Any]:
    options = {"limit": 12, "draws": 10, "check_model": False, "quiet": True, **changes}
    (row,) = diffcls.run_evaluation(
        model=str(pipelines("v_prediction")), output_dir=str(out), **options
    )
    return row


# ---- refused -----------------------------------------------------------------------------------


@pytest.fixture
def refused(
    tmp_path: Path, tiny_pipeline: Pipelines, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """A function that runs the command with refused flags; returns its line on stderr."""

    def command(*flags: object, model: Path | None = None) -> str:
        out = tmp_path / "out"
        where = ["--model", str(model or tiny_pipeline("v_prediction")), "--output-dir", str(out)]
        return refusal(evaluate.main, [*where, "--quiet", "--limit", "2", *flags], out, capsys)

    return command


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        *(
            (f"--search {name} --candidates 0", "candidates out of range: 0; allowed: 1 to")
            for name in REFUSED
        ),
        ("--search gradient --candidates two", "--candidates: not a whole number: 'two'"),
        ("--candidates 3", "'racing' has no such option: 'candidates'; allowed: draws, confidence"),
        ("--search gradient --draws 0", "draws out of range: 0"),
        ("--search gradient --confidence 1", "confidence out of range: 1.0"),
        ("--search gradient --n-trials 2", "stages belong to --search paper: 'gradient'"),
        *(
            (f"--search {name} --max-evaluations 90", "for a search without a screen: 90; choose")
            for name in REFUSED
        ),
        *(
            (f"--search {name} --aggregate prompts", "all images share: 'prompts that race'")
            for name in REFUSED
        ),
        *(
            (f"--search {name} --dataset scenes/pairs", "share: 'candidates of an image'; choose")
            for name in REFUSED
        ),
        ("--search propose --clip-model no-such", "unknown CLIP model: 'no-such'"),
        ("--search gradeint", "did you mean 'gradient'?"),
        ("--search tree", "this search was removed: 'tree'; allowed: racing, paper, exhaustive"),
        ("--search tree --candidates 3", "; choose --search learned, or racing"),
    ],
)
def test_option_that_excludes_a_screen_is_refused(
    refused: Callable[..., str], flags: str, message: str
) -> None:
    assert message in refused(*flags.split())


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_of_class_ids_is_refused(
    refused: Callable[..., str], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, name: str
) -> None:
    model = tiny_families.saved("dit", tmp_path_factory.getbasetemp())
    ids = tmp_path / "ids.csv"
    ids.write_text("classidx,classid\n" + "".join(f"{k},{k}\n" for k in range(10)))
    message = refused("--search", name, "--class-ids", ids, model=model)
    assert "a screen needs text prompts, and the model is class-conditional" in message


# ---- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_run_leaves_complete_records_and_a_row(
    tmp_path: Path, tiny_pipeline: Pipelines, name: str
) -> None:
    row = run(tmp_path, tiny_pipeline, search=name, candidates=3)
    assert row["status"] == "complete" and row["n_scored"] == 12
    assert row["search"] == name and row["setting"] == "draws=10 candidates=3"
    assert (row["supervision"] == "hybrid") == (name == "propose")
    assert row["top5"] is not None and row["ece"] is not None
    records = answers(tmp_path)
    assert len(records) == 12
    for record in records.values():
        assert sorted(record.ranking) == list(range(10))
        scores = np.array(record.scores, dtype=np.float64)  # none is missing
        best = scores[record.ranking[0]]
        assert best == scores.max()
        assert record.evaluations > 0
        if name == "propose":  # three raced, the others are far behind them
            assert (scores > best - UNPROPOSED_ERROR / 2).sum() == 3
    # the same command has nothing left to do
    before = lines(tmp_path)
    assert run(tmp_path, tiny_pipeline, search=name, candidates=3)["n_scored"] == 12
    assert lines(tmp_path) == before


@pytest.mark.parametrize("name", ALL)
def test_saved_tables_hold_the_race_and_nothing_else(
    tmp_path: Path, tiny_pipeline: Pipelines, name: str
) -> None:
    run(tmp_path, tiny_pipeline, search=name, candidates=3, save_errors=str(tmp_path / "tables"))
    paths = sorted((tmp_path / "tables").rglob("*.npz"))
    assert len(paths) == 12
    by_id = answers(tmp_path)
    for path in paths:
        errors = np.load(path)["errors"]
        assert errors.shape == (10, 10) and errors.dtype == np.float32
        raced = np.isfinite(errors).any(axis=1)
        assert 1 <= raced.sum() <= 3
        record = by_id[path.relative_to(tmp_path / "tables").with_suffix("").as_posix()]
        assert raced[record.ranking[0]]
        screen = record.evaluations - np.isfinite(errors).sum()
        assert (screen == 0) == (name == "propose") and screen >= 0


@pytest.mark.parametrize("name", ALL)
def test_replay_refuses_what_needs_the_network(
    tmp_path: Path, tiny_pipeline: Pipelines, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    run(tmp_path, tiny_pipeline, search="exhaustive", limit=3, draws=4, save_errors=str(whole))
    run(tmp_path, tiny_pipeline, search=name, limit=3, draws=4, save_errors=str(part))
    capsys.readouterr()
    for flags in ([str(whole), "--search", "racing", name], [str(part), "--vote", "mean"]):
        assert replay.main(flags) == 2
        message = capsys.readouterr().err
        assert f"with a screen needs the network, and cannot be replayed: '{name}'" in message
    with pytest.raises(UsageError, match="requests errors that were not saved"):
        replayed(part, ["exhaustive"])


# ---- costs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "most"),
    [
        # ⌈0.4·√10⌉ points of three evaluations each, then 3 classes × 10 draws
        ({"search": "gradient", "candidates": 3}, 2 * 3 + 3 * 10),
        ({"search": "gradient", "candidates": 10}, 10 * 10),
        ({"search": "propose", "candidates": 3}, 3 * 10),
    ],
)
def test_dry_run_reports_the_maximum_cost_per_image(
    tmp_path: Path, tiny_pipeline: Pipelines, options: dict[str, Any], most: int
) -> None:
    row = run(tmp_path, tiny_pipeline, dry_run=True, **options)
    assert row["evaluations_per_image_at_most"] == most
    assert not list(tmp_path.iterdir())
    run(tmp_path, tiny_pipeline, **options)
    assert 0 < max(record.evaluations for record in answers(tmp_path).values()) <= most


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_budget_takes_draws_then_images(
    tmp_path: Path, tiny_pipeline: Pipelines, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffcls.classifiers.diffusion import DiffusionMethod

    monkeypatch.setattr(DiffusionMethod, "seconds_per_batch", lambda self: 0.5)  # of 64 rows

    def dry(**changes: Any) -> dict[str, Any]:
        return run(tmp_path, tiny_pipeline, dry_run=True, search=name, draws=None, **changes)

    whole, fitted, few = dry(), dry(budget="12s"), dry(budget="2s")
    # 12 s are 1,536 evaluations, 128 per image
    assert whole["evaluations_per_image_at_most"] > 128
    assert fitted["images"] == 12
    assert 100 < fitted["evaluations_per_image_at_most"] <= 128
    assert few["spec"]["search_options"]["draws"] == 5
    assert few["images"] == 256 // few["evaluations_per_image_at_most"] < 12


@pytest.mark.slow
def test_fingerprint_depends_on_the_clip_model_and_not_on_its_folder(
    tmp_path: Path, tiny_pipeline: Pipelines
) -> None:
    def fingerprint(clip_model: Path | str | None) -> str:
        options = {"search": "propose", "clip_model": clip_model and str(clip_model)}
        return str(run(tmp_path, tiny_pipeline, dry_run=True, **options)["fingerprint"])

    bundled = fingerprint(None)
    assert fingerprint("clip-digits") == bundled
    assert fingerprint("clip-cifar10") != bundled
    elsewhere = tmp_path / "a" / "copy"
    shutil.copytree(WEIGHTS / "clip-digits", elsewhere)
    assert fingerprint(elsewhere) == bundled
    config = elsewhere / "open_clip_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "note": 1}))
    assert fingerprint(elsewhere) != bundled


# ---- interrupted, sharded ----------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_or_sharded_run_has_the_records_of_a_single_one(
    tmp_path: Path, tiny_pipeline: Pipelines
) -> None:
    flags = ["--model", str(tiny_pipeline("v_prediction")), "--limit", "40", "--draws", "12"]
    flags += ["--threads", "1", "--quiet", "--search", "gradient", "--candidates", "3"]
    whole, cut, split = (tmp_path / name for name in ("whole", "cut", "split"))
    assert evaluate.main([*flags, "--output-dir", str(whole)]) == 0
    expected = answers(whole)
    assert len(expected) == 40 and len({r.evaluations for r in expected.values()}) > 1
    # few images and a short race: the run is killed as soon as there are three records
    cut_off(cut, flags, signal.SIGKILL)
    early = lines(cut)
    assert 3 <= len(early) < 40, "the run was not cut off in its middle"
    assert evaluate.main([*flags, "--output-dir", str(cut)]) == 0
    assert lines(cut)[: len(early)] == early
    assert answers(cut) == expected
    for shard in ("0/2", "1/2"):
        assert evaluate.main([*flags, "--output-dir", str(split), "--shard", shard]) == 0
    assert answers(split) == expected
