"""Command ``python -m diffcls.evaluate``: its files, output and exit status."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffcls import __main__ as console_script
from diffcls import evaluate
from diffcls.data.load import load_dataset
from diffcls.evaluation import results
from diffcls.evaluation.run import run_evaluation
from diffcls.runs import leaderboard
from diffcls.runs.leaderboard import COLUMNS
from diffcls.runs.records import Record
from diffcls.scoring.scorer import Scorer
from diffcls.support.errors import UsageError

Pipelines = Callable[[str], Path]
SMALL = ("--limit", "6", "--draws", "4", "--quiet")


@dataclass
class Command:
    """The command with a model and an output folder of its own."""

    model: Path
    out: Path

    def __call__(self, *flags: object) -> int:
        where = ["--model", str(self.model), "--output-dir", str(self.out)]
        return evaluate.main([*where, *map(str, flags)])

    def rows(self) -> list[dict[str, str]]:
        """The measured rows of the leaderboard."""
        with open(self.out / "leaderboard.csv", newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if row["source"] == "measured"]

    def row(self) -> dict[str, str]:
        (row,) = self.rows()
        return row

    def run_folder(self, fingerprint: str | None = None) -> Path:
        return self.out / "runs" / (fingerprint or self.row()["fingerprint"])

    def records(self, fingerprint: str | None = None) -> list[Record]:
        files = self.run_folder(fingerprint).glob("records-*.jsonl")
        lines = [line for file in files for line in file.read_text().splitlines()]
        return sorted(map(Record.from_line, lines), key=lambda record: record.image_id)

    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads((self.run_folder() / "run.json").read_text())["spec"]
        return spec


@pytest.fixture
def command(tmp_path: Path, tiny_pipeline: Pipelines) -> Command:
    return Command(tiny_pipeline("v_prediction"), tmp_path / "out")


def make_images(root: Path, classes: int = 2, each: int = 3) -> Path:
    for k in range(classes):
        (root / f"class {k}").mkdir(parents=True)
        for i in range(each):
            shade = (255 * k, 40 * i, 128)
            Image.new("RGB", (40, 32), shade).save(root / f"class {k}" / f"{i}.png")
    return root


# ---- a run -------------------------------------------------------------------------------------


def test_run_leaves_a_row_and_a_record_per_image(command: Command) -> None:
    assert command(*SMALL) == 0
    with open(command.out / "leaderboard.csv", encoding="utf-8") as file:
        assert tuple(file.readline().rstrip("\n").split(",")) == COLUMNS
    row, records = command.row(), command.records()
    expected = {
        "dataset": "digits",
        "split": "test",
        "n_classes": "10",
        "method": "diffusion",
        "model": command.model.name,
        "search": "racing",
        "setting": "draws=4",
        "supervision": "zero-shot",
        "n_asked": "6",
        "n_scored": "6",
        "seed": "0",
        "status": "complete",
        "dtype": "float32",
    }
    assert {name: row[name] for name in expected} == expected
    assert row["device"].startswith("cpu") and "torch" in row["versions"]
    assert row["command"].startswith("python -m diffcls.evaluate --model ")
    # the figures are those of the records
    assert len({record.image_id for record in records}) == len(records) == 6
    right = [record.ranking[0] == record.label for record in records]
    assert float(row["accuracy"]) == pytest.approx(np.mean(right), abs=1e-6)
    cost = np.mean([record.evaluations for record in records])
    assert float(row["evaluations_per_image"]) == pytest.approx(cost)
    assert float(row["ci_low"]) <= float(row["accuracy"]) <= float(row["ci_high"])
    by_id = {item.image_id: item for item in load_dataset("digits").items}
    for record in records:
        assert record.label == by_id[record.image_id].label
        assert record.error is None and record.seconds > 0
        assert 20 <= record.evaluations <= 40  # 2 draws of 10 classes at first, 4 at most
        scores = np.array(record.scores, dtype=float)
        assert record.ranking == tuple(np.argsort(-scores, kind="stable"))
    assert {p.name for p in command.out.iterdir() if p.suffix != ".lock"} == {
        "leaderboard.csv",
        "runs",
    }


def test_complete_run_is_not_computed_again(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*SMALL) == 0 and command(*SMALL, "--seed", "1") == 0
    first, second = command.rows()
    assert first["fingerprint"] != second["fingerprint"]
    one, two = (command.records(row["fingerprint"]) for row in (first, second))
    assert [r.image_id for r in one] == [r.image_id for r in two]  # the seed chooses no images
    assert all(a.scores != b.scores for a, b in zip(one, two, strict=True))

    def refuse(*_: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(Scorer, "errors", refuse)
    before = {p: p.read_bytes() for p in command.out.glob("runs/*/records-*.jsonl")}
    assert command(*SMALL) == 0
    assert {p: p.read_bytes() for p in command.out.glob("runs/*/records-*.jsonl")} == before
    # reading a finished run keeps its provenance: date, commit and command
    monkeypatch.setattr(results, "clock", lambda: "2000-01-01T00:00:00Z")
    monkeypatch.setattr(results, "commit", lambda: "another")
    assert command(*SMALL, "--batch-size", "8") == 0
    assert command.rows() == [first, second]


def test_foreign_leaderboard_is_refused_before_a_run_starts(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    command.out.mkdir()
    (command.out / "leaderboard.csv").write_text("mine,all mine\n")
    assert command(*SMALL) == 1
    assert "columns differ" in capsys.readouterr().err
    assert [path.name for path in command.out.iterdir()] == ["leaderboard.csv"]
    assert (command.out / "leaderboard.csv").read_text() == "mine,all mine\n"


def test_shards_that_end_at_the_same_time_leave_a_complete_row(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert = leaderboard.upsert

    def late(*row: Any) -> None:
        # the other shard ends after this one has read the records, and before it writes its row
        monkeypatch.setattr(leaderboard, "upsert", upsert)
        assert command(*SMALL, "--shard", "1/2") == 0
        assert command.row()["status"] == "complete"
        upsert(*row)

    monkeypatch.setattr(leaderboard, "upsert", late)
    assert command(*SMALL, "--shard", "0/2") == 0
    assert (command.row()["status"], command.row()["n_scored"]) == ("complete", "6")


def test_flags_that_change_no_number_keep_the_fingerprint(command: Command) -> None:
    for flags in (
        ["--threads", "1"],
        ["--batch-size", "8"],
        ["--shard", "0/1"],
        ["--device", "cpu"],
    ):
        assert command(*SMALL, *flags) == 0
    assert len(command.rows()) == 1
    header = json.loads((command.run_folder() / "run.json").read_text())
    assert header["batch_size"] == 64  # of the first start: later ones keep it


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        (["--limit", "3"], 3),
        (["--subset", "1-per-class"], 10),
        (["--indices", "INDICES"], 2),
        (["--split", "validation", "--limit", "2"], 2),
    ],
    ids=str,
)
def test_subsets_are_counted(
    command: Command, tmp_path: Path, flags: list[str], count: int
) -> None:
    (tmp_path / "two.txt").write_text("7 3")
    flags = [str(tmp_path / "two.txt") if flag == "INDICES" else flag for flag in flags]
    assert command("--draws", "2", "--search", "exhaustive", "--quiet", *flags) == 0
    row = command.row()
    assert int(row["n_asked"]) == int(row["n_scored"]) == count == len(command.records())
    assert float(row["evaluations_per_image"]) == 20
    if "--indices" in flags:
        assert [record.image_id for record in command.records()] == ["test/3", "test/7"]


# ---- flags -------------------------------------------------------------------------------------


def test_published_spelling_implies_the_published_stages_and_l2(command: Command) -> None:
    small = ("--limit", "2", "--quiet")
    assert command(*small, "--n_samples", "2", "6", "--to_keep", "3", "1") == 0
    row = command.row()
    assert (row["search"], row["setting"]) == ("paper", "n_samples=2,6 to_keep=3,1")
    # 2 of all 10, then the 6 of 3, none of the first 2 among them
    options = command.spec()["search_options"]
    assert options == {"samples": [2, 6], "keep": [3, 1], "trials": 1}
    assert command.spec()["loss"] == "l2"
    assert float(row["evaluations_per_image"]) == sum(r.evaluations for r in command.records()) / 2
    for same in (
        ["--n-samples", "2", "6", "--to-keep", "3", "1"],
        ["--stages", "2:3", "6:1"],
        ["--search=paper", "--n_samples", "2", "6", "--to-keep", "3", "1", "--loss", "l2"],
    ):
        assert command(*small, *same) == 0
        assert len(command.rows()) == 1
    assert command(*small, "--stages", "2:3", "6:1", "--loss", "l1") == 0
    assert len(command.rows()) == 2


def test_error_tables_are_kept(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "errors"
    assert command("--limit", "3", "--quiet", "--draws", "6", "--save-errors", folder) == 0
    records = command.records()
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files - {".run.json.lock"} == {
        "run.json",
        *(f"{record.image_id}.npz" for record in records),
    }
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert run["fingerprint"] == command.row()["fingerprint"]
    for record in records:
        with np.load(folder / f"{record.image_id}.npz", allow_pickle=False) as kept:
            assert set(kept) == {"errors", "timesteps", "label", "class_names"}
            errors, timesteps = kept["errors"], kept["timesteps"]
            assert errors.shape == (10, 6) and errors.dtype == np.float32
            assert timesteps.shape == (6,) and len(set(timesteps.tolist())) == 6
            assert int(kept["label"]) == record.label
            assert kept["class_names"].tolist() == list("0123456789")
        assert np.isfinite(errors).sum() == record.evaluations
        best = record.ranking[0]
        assert record.scores[best] == pytest.approx(-np.nanmean(errors[best]), rel=1e-6)


def test_error_tables_of_a_finished_run_are_computed_later(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--limit", "3", "--quiet", "--draws", "6")
    folder, later = tmp_path / "errors", tmp_path / "later"
    assert command(*flags, "--save-errors", folder) == 0
    row, before = command.row(), command.records()
    assert command(*flags, "--save-errors", later) == 0
    assert (command.row(), command.records()) == (row, before)
    for record in before:
        one, two = (np.load(f / f"{record.image_id}.npz")["errors"] for f in (folder, later))
        assert np.array_equal(one, two, equal_nan=True)
    # tables of another run never replace them
    kept = {path: path.read_bytes() for path in folder.rglob("*.npz")}
    assert command(*flags, "--seed", "1", "--save-errors", folder) == 2
    assert "error tables of another run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.npz")} == kept


def test_json_has_the_columns_of_the_leaderboard(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*SMALL, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert tuple(row) == COLUMNS
    assert row["n_scored"] == 6 and row["fingerprint"] == command.row()["fingerprint"]


def test_dry_run_writes_nothing(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*SMALL, "--dry-run") == 0
    assert not command.out.exists()
    (plan,) = json.loads(capsys.readouterr().out)
    assert plan["images"] == 6 and plan["evaluations_per_image_at_most"] == 40
    assert command(*SMALL) == 0
    assert command.spec() == plan["spec"]
    assert command.row()["fingerprint"] == plan["fingerprint"]


def test_output_is_a_table_by_default(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--model", str(command.model), "--output-dir", str(command.out)]
    assert console_script.main(["evaluate", *where, *SMALL]) == 0
    out, err = capsys.readouterr()
    assert "accuracy [95 %]" in out and "diffusion/racing" in out
    assert command.row()["fingerprint"] in out
    untrained = (
        "diffcls: the model looks untrained: on 4 images its outputs are no better than zero"
    )
    assert err.splitlines() == [untrained]


def test_python_function_takes_the_flags_of_the_command(command: Command) -> None:
    options = {"model": str(command.model), "output_dir": str(command.out), "quiet": True}
    (row,) = run_evaluation(limit=6, draws=4, method="diffusion", **options)
    assert command.row()["fingerprint"] == row["fingerprint"]
    assert command(*SMALL) == 0
    assert len(command.rows()) == 1
    with pytest.raises(UsageError, match=r"unknown argument of run_evaluation: 'limits'.*'limit'"):
        run_evaluation(limits=6, **options)


# ---- a person's own images ---------------------------------------------------------------------


def test_run_with_a_corrupt_image_is_complete_and_counts_it(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images(tmp_path / "shapes")
    bad = images / "class 1" / "1.png"
    bad.write_bytes(bad.read_bytes()[:60])
    assert command("--dataset", f"folder:{images}", "--draws", "3", "--quiet") == 0
    assert "1 images could not be scored" in capsys.readouterr().err
    row, records = command.row(), command.records()
    assert (row["dataset"], row["n_asked"], row["n_scored"]) == ("folder:shapes", "6", "5")
    assert row["status"] == "complete"
    failed = [record for record in records if record.error is not None]
    assert [(r.image_id, r.ranking, r.evaluations) for r in failed] == [("class 1/1.png", (), 0)]
    assert "cannot read image" in str(failed[0].error)
    scored = [record for record in records if record.error is None]
    right = np.mean([r.ranking[0] == r.label for r in scored])
    assert float(row["accuracy"]) == pytest.approx(right, abs=1e-6)


def test_run_without_any_readable_image_fails(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images(tmp_path / "shapes", each=1)
    for path in images.rglob("*.png"):
        path.write_bytes(b"no image")
    assert command("--dataset", f"folder:{images}", "--draws", "3", "--quiet") == 1
    classes, prompts, error = capsys.readouterr().err.splitlines()
    assert classes.startswith("diffcls: 2 classes") and prompts.startswith("diffcls: prompts")
    assert "no image could be scored" in error
