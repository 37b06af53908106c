"""Several data sets, models and seeds in one command: killed, resumed, and equal to single runs."""

from __future__ import annotations

import csv
import itertools
import json
import random
import shutil
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.interrupted_runs import answers, cut_off, lines
from PIL import Image

from diffcls import evaluate
from diffcls.evaluation import run as evaluation
from diffcls.evaluation.run import run_evaluation
from diffcls.models import loading
from diffcls.runs.records import Record, RecordStore

SEEDS = (0, 1)
SMALL = ["--limit", "2", "--draws", "2", "--threads", "1", "--no-check-model", "--quiet"]
NOT_COMPARED = {"seconds_per_image", "date", "command", "commit"}
"""Columns of times and of the command; the tree may change while the slow test runs."""
Pipelines = Callable[[str], Path]
Rows = dict[str, dict[str, str]]


def rows(out: Path) -> Rows:
    """The leaderboard: fingerprint -> row, without times and the command."""
    with open(out / "leaderboard.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    kept = {
        row["fingerprint"]: {k: v for k, v in row.items() if k not in NOT_COMPARED} for row in table
    }
    assert len(kept) == len(table)
    return kept


def single_runs(
    out: Path, datasets: list[str], models: list[str], flags: list[str]
) -> tuple[Rows, dict[str, Any]]:
    """Rows and records of a command of its own for each combination."""
    records: dict[str, Any] = {}
    for number, (dataset, model, seed) in enumerate(itertools.product(datasets, models, SEEDS)):
        here = out / str(number)
        own = ["--dataset", dataset, "--model", model, "--seed", str(seed)]
        assert evaluate.main([*flags, *own, "--output-dir", str(here)]) == 0
        (fingerprint,) = rows(here)
        records[fingerprint] = answers(here)
    table = {k: v for number in range(len(records)) for k, v in rows(out / str(number)).items()}
    return table, records


def records_of(out: Path) -> dict[str, Any]:
    """Fingerprint -> records of the run."""
    records = {}
    for folder in sorted((out / "runs").iterdir()):
        copy = out.parent / "copies" / folder.name
        shutil.copytree(folder, copy / "runs" / folder.name)
        records[folder.name] = answers(copy)
    return records


def photos(folder: Path) -> str:
    """A person's own data: two classes of two images."""
    for k in range(2):
        (folder / f"class {k}").mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (20, 20), (250 * k, 90 * i, 128)).save(folder / f"class {k}/{i}.png")
    return f"folder:{folder}"


def several(datasets: list[str], models: list[str]) -> list[str]:
    return ["--dataset", *datasets, "--model", *models, "--seed", *map(str, SEEDS)]


@pytest.mark.slow
def test_killed_combinations_resume_to_the_rows_of_single_runs(
    tmp_path: Path, tiny_pipeline: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = ["digits", photos(tmp_path / "photos"), "scenes:4"]
    models = [str(tiny_pipeline("v_prediction")), str(tiny_pipeline("epsilon"))]
    out, flags = tmp_path / "out", [*SMALL, *several(datasets, models)]
    status, _ = cut_off(out, flags, signal.SIGKILL, records=5)
    assert status == -signal.SIGKILL
    early = lines(out)
    assert len(early) == 5 and not rows(out).keys() >= {p.name for p in out.glob("runs/*")}

    loads: list[str] = []
    load = loading.open_pipeline
    monkeypatch.setattr(
        loading,
        "open_pipeline",
        lambda index, dtype: loads.append(index.path.parent.name) or load(index, dtype),
    )
    assert evaluate.main([*flags, "--output-dir", str(out)]) == 0
    # each model is timed, then run: the one that runs first is timed last and stays
    assert len(loads) == 2 * len(models) - 1
    assert {*early} <= {*lines(out)}  # stored records are not computed again
    monkeypatch.undo()

    expected, records = single_runs(tmp_path / "single", datasets, models, SMALL)
    assert len(expected) == len(datasets) * len(models) * len(SEEDS)
    assert rows(out) == expected
    assert records_of(out) == records


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_bundled_models_survive_kills_at_random_moments(tmp_path: Path) -> None:
    datasets, models = ["digits", "scenes/attributes", "scenes/counting"], ["digits", "scenes"]
    flags = "--limit 6 --draws 4 --threads 1 --no-check-model --quiet".split()
    out, command = tmp_path / "out", [*flags, *several(datasets, models)]
    moments, kills = random.Random(20), 0
    while True:
        status, err = cut_off(out, command, signal.SIGKILL, records=moments.randint(5, 25))
        if status == 0:
            break
        assert status == -signal.SIGKILL, err
        kills += 1
    assert kills >= 2, "the command was not killed often enough"
    expected, records = single_runs(tmp_path / "single", datasets, models, flags)
    assert rows(out) == expected
    assert records_of(out) == records
    assert evaluate.main([*command, "--output-dir", str(out)]) == 0  # nothing is left to do
    assert rows(out) == expected


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Pipelines) -> list[str]:
    """Flags of a finished command of two data sets, one model, two seeds and two methods."""
    folder = tmp_path_factory.mktemp("finished")
    flags = ["--dataset", "digits", photos(folder / "photos"), "--method", "diffusion", "reference"]
    flags += ["--reference", "chance", "--model", str(tiny_pipeline("v_prediction"))]
    flags += ["--seed", "0", "1", *SMALL, "--output-dir", str(folder / "out")]
    assert evaluate.main(flags) == 0
    return flags


def test_rows_are_in_the_order_of_the_flags(
    finished: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([*finished, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [(row["dataset"], row["seed"], row["method"]) for row in table] == [
        (dataset, seed, method)
        for dataset in ("digits", "folder:photos")
        for seed in (0, 1)
        for method in ("diffusion", "reference")
    ]


def test_the_summary_has_the_mean_over_seeds_and_their_spread(
    finished: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([*finished, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert evaluate.main(finished) == 0
    summary = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert len(summary) == 2 + 4
    for line, dataset, method in zip(
        summary[2:],
        ("digits", "digits", "folder:photos", "folder:photos"),
        ("diffusion/racing", "reference") * 2,
        strict=True,
    ):
        group = [
            row
            for row in table
            if row["dataset"] == dataset and row["method"] == method.partition("/")[0]
        ]
        mean, low, high = (
            100 * statistics.mean(row[name] for row in group)
            for name in ("accuracy", "ci_low", "ci_high")
        )
        spread = 100 * statistics.stdev(row["accuracy"] for row in group)
        assert line.startswith(dataset) and f" {method} " in line
        assert f"{mean:.1f} % [{low:.1f}, {high:.1f}]" in line
        assert line.endswith(f" 2  {spread:>15.1f}")


def test_a_dry_run_writes_nothing_and_sums_the_costs(
    tmp_path: Path, tiny_pipeline: Pipelines, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ["--dataset", "digits", "scenes/counting", "--seed", "0", "1", "--limit", "4"]
    flags += ["--model", str(tiny_pipeline("v_prediction")), "--draws", "3", "--dry-run"]
    assert evaluate.main([*flags, "--output-dir", str(out)]) == 0
    captured = capsys.readouterr()
    table = json.loads(captured.out)
    assert [row["spec"]["dataset"] for row in table] == ["digits"] * 2 + ["scenes/counting"] * 2
    assert not out.exists()
    total = sum(row["images"] * row["evaluations_per_image_at_most"] for row in table)
    announced = "2 data sets × 1 model × 2 seeds × 1 method: 4 runs; 16 images"
    assert f"{announced}, {total:,} evaluations at most" in captured.err


def test_the_total_is_announced_before_the_first_run_starts(
    tmp_path: Path, tiny_pipeline: Pipelines, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset", "digits", "--seed", "0", "1", "2", "--limit", "4", "--draws", "3"]
    flags += ["--model", str(tiny_pipeline("v_prediction")), "--no-check-model"]
    assert evaluate.main([*flags, "--output-dir", str(tmp_path)]) == 0
    first, *of_runs = (x for x in capsys.readouterr().err.splitlines() if "evaluations" in x)
    assert "1 data set × 1 model × 3 seeds × 1 method: 3 runs; 12 images, 360 evaluations" in first
    assert len(of_runs) == 3 and all("4 images × 30 evaluations" in line for line in of_runs)


def test_a_corrupt_model_does_not_lose_the_other_runs(
    tmp_path: Path, tiny_pipeline: Pipelines, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tiny_pipeline("v_prediction"), tmp_path / "corrupt"
    shutil.copytree(good, bad)
    (bad / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    out = tmp_path / "out"
    flags = ["--dataset", "digits", "--model", str(bad), str(good), "--seed", "0", "1", *SMALL]
    assert evaluate.main([*flags, "--output-dir", str(out), "--json"]) == 1
    captured = capsys.readouterr()
    assert [(row["model"], row["seed"]) for row in json.loads(captured.out)] == [
        (good.name, 0),
        (good.name, 1),
    ]
    failed = [line for line in captured.err.splitlines() if "failed: --dataset digits" in line]
    assert len(failed) == 2 and all(str(bad) in line for line in failed)
    with pytest.raises(evaluation.FailedRuns, match="1 of 2 runs failed") as error:
        run_evaluation(
            model=[str(bad), str(good)],
            limit=2,
            draws=2,
            threads=1,
            check_model=False,
            quiet=True,
            output_dir=str(out),
        )
    assert [row["model"] for row in error.value.rows] == [good.name]


@pytest.mark.slow
def test_shards_of_all_runs_make_them_complete(tmp_path: Path, tiny_pipeline: Pipelines) -> None:
    flags = ["--dataset", "digits", "--seed", "0", "1", *SMALL, "--output-dir", str(tmp_path)]
    flags += ["--model", str(tiny_pipeline("v_prediction"))]
    assert evaluate.main([*flags, "--shard", "0/2"]) == 0
    assert {row["status"] for row in rows(tmp_path).values()} == {"partial"}
    assert evaluate.main([*flags, "--shard", "1/2"]) == 0
    assert {row["status"] for row in rows(tmp_path).values()} == {"complete"}


def test_ctrl_c_ends_all_runs_with_130(
    tmp_path: Path,
    tiny_pipeline: Pipelines,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    append = RecordStore.append

    def interrupted(store: RecordStore, record: Record) -> None:
        append(store, record)
        if len(lines(tmp_path)) == 3:  # in the second run
            raise KeyboardInterrupt

    monkeypatch.setattr(RecordStore, "append", interrupted)
    flags = ["--seed", "0", "1", "2", *SMALL, "--model", str(tiny_pipeline("v_prediction"))]
    assert evaluate.main([*flags, "--output-dir", str(tmp_path)]) == 130
    assert "rerun the same command to resume" in capsys.readouterr().err
    assert len(lines(tmp_path)) == 3


def test_error_tables_of_several_runs_have_a_folder_each(
    tmp_path: Path, tiny_pipeline: Pipelines
) -> None:
    flags = ["--seed", "0", "1", *SMALL, "--model", str(tiny_pipeline("v_prediction"))]
    flags += ["--output-dir", str(tmp_path / "out"), "--save-errors", str(tmp_path / "tables")]
    assert evaluate.main(flags) == 0
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {*rows(tmp_path / "out")}
