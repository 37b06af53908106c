"""Replay: saved tables give the predictions of a run, without the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffcls
from diffcls import replay
from diffcls.diffusion.timestep_allocation import allocate
from diffcls.evaluation import replay as replaying
from diffcls.evaluation.replay import Setting, learn
from diffcls.evaluation.replay import replay as replayed
from diffcls.runs.error_tables import read_saved
from diffcls.runs.records import Record, read_records
from diffcls.support.errors import DataError, RecordError, UsageError
from diffcls.support.hashing import hash_json

Pipelines = Callable[[str], Path]
DRAWS = 8


@pytest.fixture(scope="module")
def run(tiny_pipeline: Pipelines, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs an evaluation of eight images: (its row, its records by image)."""
    out = tmp_path_factory.mktemp("replay")

    def evaluate(**changes: Any) -> tuple[dict[str, Any], dict[str, Record]]:
        options = {"limit": 8, "draws": DRAWS, "check_model": False, "quiet": True, **changes}
        (row,) = diffcls.run_evaluation(
            model=str(tiny_pipeline("v_prediction")), output_dir=str(out), **options
        )
        files = (out / "runs" / row["fingerprint"]).glob("records-*.jsonl")
        return row, {r.image_id: r for file in files for r in read_records(file)}

    return evaluate


@pytest.fixture(scope="module")
def tables(run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Full tables of the eight images."""
    folder = tmp_path_factory.mktemp("tables") / "digits"
    run(search="exhaustive", save_errors=str(folder))
    return folder


@pytest.mark.parametrize(
    ("search", "weighting", "vote"),
    [
        ("exhaustive", "uniform", "mean"),
        ("racing", "uniform", "mean"),
        ("halving", "uniform", "mean"),
        ("exhaustive", "v", "mean"),
        ("racing", "truncated-snr", "mean"),
        ("exhaustive", "uniform", "rank"),
        ("racing", "uniform", "majority"),
    ],
)
def test_replay_equals_the_run(
    search: str, weighting: str, vote: str, run: Callable[..., Any], tables: Path
) -> None:
    row, records = run(search=search, weighting=weighting, vote=vote)
    (again,) = replayed(tables, [search], [weighting], [vote])
    assert again["evaluations_per_image"] == row["evaluations_per_image"]
    assert again["accuracy"] == row["accuracy"]
    assert (again["ci_low"], again["ci_high"]) == (row["ci_low"], row["ci_high"])
    saved, setting = read_saved(tables), Setting(search, weighting, vote)
    results = replaying._run(saved, setting, replaying._search(saved, search, {}))
    assert dict(zip(saved.image_ids, results, strict=True)) == {
        image_id: (record.ranking[0], record.evaluations) for image_id, record in records.items()
    }
    assert dict(zip(saved.image_ids, saved.labels, strict=True)) == {
        image_id: record.label for image_id, record in records.items()
    }


@pytest.mark.parametrize("search", ["exhaustive", "racing", "halving"])
def test_tables_of_an_allocation_are_replayed_on_its_draws(
    search: str, run: Callable[..., Any], tables: Path, tmp_path: Path
) -> None:
    options = {"allocation": "cifar10", "search": "exhaustive"}
    row, _ = run(**options, save_errors=str(tmp_path / "t"))
    saved, even = read_saved(tmp_path / "t"), read_saved(tables)
    assert saved.spec["allocation"].startswith("learned@cifar10/validation:")
    assert (saved.indices != even.indices).any()
    assert np.array_equal(
        saved.indices, allocate(even.indices, saved.spec["allocation"], saved.schedule)
    )
    row, records = run(allocation="cifar10", search=search)
    (again,) = replayed(tmp_path / "t", [search])
    assert again["evaluations_per_image"] == row["evaluations_per_image"]
    results = replaying._run(
        saved, Setting(search, "uniform", "mean"), replaying._search(saved, search, {})
    )
    assert dict(zip(saved.image_ids, results, strict=True)) == {
        image_id: (record.ranking[0], record.evaluations) for image_id, record in records.items()
    }
    # fewer are the first of them
    (fewer,) = replayed(tmp_path / "t", ["exhaustive"], draws=3)
    assert (
        fewer["accuracy"] == run(allocation="cifar10", search="exhaustive", draws=3)[0]["accuracy"]
    )


def test_weighting_is_not_learned_on_allocated_draws(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    options = {"split": "validation", "search": "exhaustive", "allocation": "cifar10"}
    run(**options, save_errors=str(tmp_path / "t"))
    with pytest.raises(DataError, match="spread evenly over time: 'learned@cifar10/validation'"):
        learn(tmp_path / "t")


@pytest.mark.parametrize(
    "options",
    [
        {"search": "racing", "confidence": 0.3},
        {"search": "racing", "allocation": "fashion_mnist"},
        {"search": "racing", "max_evaluations": 52},
        {"search": "racing", "vote": "rank"},
        {"search": "halving", "weighting": "v"},
        {"draws": None, "n_samples": (2, 6), "to_keep": (3, 1), "n_trials": 2},
    ],
    ids=str,
)
def test_without_flags_the_tables_are_searched_as_they_were_made(
    options: dict[str, Any], run: Callable[..., Any], tmp_path: Path
) -> None:
    row, _ = run(**options, save_errors=str(tmp_path / "t"))
    (again,) = replayed(tmp_path / "t")
    assert again["search"] == row["search"]
    assert again["weighting"] == options.get("weighting", "uniform")
    assert again["vote"] == options.get("vote", "mean")
    assert again["evaluations_per_image"] == row["evaluations_per_image"]
    assert again["accuracy"] == row["accuracy"]


def test_tables_of_ones_own_images_are_replayed(run: Callable[..., Any], tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / "shapes" / f"class {k}").mkdir(parents=True)
        Image.new("RGB", (40, 32), (255 * k, 40, 128)).save(
            tmp_path / "shapes" / f"class {k}" / "a.b.png"
        )
    options = {"dataset": f"folder:{tmp_path / 'shapes'}", "limit": None}
    row, records = run(**options, search="exhaustive", save_errors=str(tmp_path / "t"))
    again, _ = replayed(tmp_path / "t", ["exhaustive", "racing"])
    assert again["accuracy"] == row["accuracy"]
    assert set(read_saved(tmp_path / "t").image_ids) == set(records)


def test_combinations_are_compared_with_the_first(tables: Path) -> None:
    first, *others = replayed(tables, ["exhaustive", "racing"], ["uniform", "snr"], ["mean"])
    assert (first["agreement"], first["p"]) == (1.0, 1.0)
    assert [(r["search"], r["weighting"]) for r in others] == [
        ("exhaustive", "snr"),
        ("racing", "uniform"),
        ("racing", "snr"),
    ]


def test_fewer_draws_are_the_first_of_the_saved_ones(run: Callable[..., Any], tables: Path) -> None:
    row, _ = run(search="exhaustive", draws=3)
    for searches in (["exhaustive"], []):
        (again,) = replayed(tables, searches, draws=3)
        assert again["accuracy"] == row["accuracy"] and again["evaluations_per_image"] == 30


def test_each_search_takes_the_options_that_it_has(run: Callable[..., Any], tables: Path) -> None:
    row, _ = run(search="racing", confidence=0.3)
    exhaustive, racing = replayed(tables, ["exhaustive", "racing"], confidence=0.3)
    assert exhaustive["evaluations_per_image"] == 10 * DRAWS
    assert racing["evaluations_per_image"] == row["evaluations_per_image"] < 10 * DRAWS
    with pytest.raises(UsageError, match="option that none of the searches has: 'confidence'"):
        replayed(tables, ["exhaustive", "halving"], confidence=0.3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--search", "paper"], "other draws than the search 'paper' requests"),
        (["--search", "exhaustive", "--draws", "9"], "other draws"),
        (["--search", "racing", "halfing"], "did you mean 'halving'"),
        (["--vote", "best"], "unknown vote"),
        (["--weighting", "snrs"], "unknown weighting"),
        (["--weighting", "none.json"], "cannot read a weighting"),
    ],
)
def test_impossible_replay_is_refused(
    flags: list[str], message: str, tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay.main([str(tables), *flags]) == 2
    assert message in capsys.readouterr().err


def test_errors_that_were_not_saved_are_reported(run: Callable[..., Any], tmp_path: Path) -> None:
    run(search="halving", save_errors=str(tmp_path / "some"))
    with pytest.raises(UsageError, match="requests errors that were not saved"):
        replayed(tmp_path / "some", ["exhaustive"])


@pytest.mark.parametrize(
    "text",
    [
        None,
        "{",
        "[]",
        '{"fingerprint": "0"}',
        '{"alpha": [1], "sigma": [0], "indices": [0], "spec": 1}',
    ],
)
def test_folder_that_holds_no_tables_is_refused(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert replay.main([str(tmp_path)]) == 2
    assert "not a folder of error tables" in capsys.readouterr().err


def test_prompts_that_raced_are_not_taken_for_classes(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    two = ("a {}", "the digit {}")
    run(aggregate="prompts", template=two, limit=2, draws=2, save_errors=str(tmp_path / "two"))
    with pytest.raises(UsageError, match="the prompts of a class raced"):
        read_saved(tmp_path / "two")
    # with one prompt per class, the prompt is the class
    row, _ = run(aggregate="prompts", search="exhaustive", save_errors=str(tmp_path / "one"))
    assert replayed(tmp_path / "one")[0]["accuracy"] == row["accuracy"]


def test_damaged_table_is_named(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(search="exhaustive", limit=2, draws=2, save_errors=str(tmp_path / "t"))
    path = sorted((tmp_path / "t").rglob("*.npz"))[0]
    content = path.read_bytes()
    path.write_bytes(content[:40])
    assert replay.main([str(tmp_path / "t")]) == 1
    assert str(path) in capsys.readouterr().err
    path.write_bytes(content)
    other = path.with_name("mine.npz")
    for arrays in ({"x": np.ones(3)}, {"errors": np.ones((10, 3)), "label": np.int64(0)}):
        np.savez(other, **arrays)
        with pytest.raises(RecordError, match=r"not an error table of this run: .*mine\.npz"):
            read_saved(tmp_path / "t")


def made_tables(folder: Path, alpha: list[float], weighting: str, split: str) -> Path:
    """Tables of ten images of four classes on eight draws, of the given schedule."""
    spec = {
        "dataset": "digits",
        "split": split,
        "search": "exhaustive",
        "search_options": {"draws": 8},
        "weighting": weighting,
        "prompts": list("0123"),
        "class_names": list("0123"),
    }
    a = np.array(alpha)
    run = {"indices": [4, 2, 6, 1, 5, 3, 7, 0], "alpha": alpha, "sigma": np.sqrt(1 - a**2).tolist()}
    folder.mkdir()
    (folder / "run.json").write_text(
        json.dumps({"fingerprint": hash_json(spec), "spec": spec, **run})
    )
    rng = np.random.default_rng(0)
    for i in range(10):
        errors = rng.normal(5, 1, (4, 8)).astype(np.float32)
        errors[i % 4] -= 1
        np.savez(folder / f"{i}.npz", errors=errors, label=np.int64(i % 4))
    return folder


def test_weighting_covers_a_level_without_signal(tmp_path: Path) -> None:
    alpha = [*np.linspace(0.99, 0.05, 7), 0.0]  # as a schedule rescaled to end at no signal
    learned = learn(made_tables(tmp_path / "a", alpha, "uniform", "validation"))
    assert all(np.isfinite(float(p)) for k in learned["knots"].split(",") for p in k.split("="))
    # errors saved with weight 0 are lost for other weightings, but not for their own
    lost = made_tables(tmp_path / "b", alpha, "snr", "validation")
    assert replayed(lost)[0]["evaluations_per_image"] == 4 * 8
    for refused in (lambda: replayed(lost, [], ["uniform"]), lambda: learn(lost)):
        with pytest.raises(UsageError, match="saved with weight 0"):
            refused()


def test_machine_output_is_json(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(tables), "--search", "exhaustive", "racing", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["search"] for row in rows] == ["exhaustive", "racing"]
    assert replay.main([str(tables), "--vote", "mean"]) == 0
    assert "accuracy [95 %]" in capsys.readouterr().out


def test_replay_of_everything_as_saved_is_refused(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay.main([str(tables)]) == 2
    assert "nothing to replay" in capsys.readouterr().err


def test_weighting_is_learned_on_validation_images_and_overwrites_nothing(
    run: Callable[..., Any], tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="cannot be learned on test images"):
        learn(tables)
    run(split="validation", search="exhaustive", save_errors=str(tmp_path / "v"))
    file = tmp_path / "weighting.json"
    assert replay.main([str(tmp_path / "v"), "--learn", str(file)]) == 0
    row, _ = run(search="exhaustive", weighting=str(file))
    assert "weighting=learned@digits/validation" in row["setting"]
    (again,) = replayed(tables, ["exhaustive"], [str(file)])
    assert again["accuracy"] == row["accuracy"]
    capsys.readouterr()
    before = file.read_bytes()
    for taken in (file, tmp_path / "none" / "w.json", tmp_path / "w.txt"):
        assert replay.main([str(tmp_path / "v"), "--learn", str(taken)]) == 2
        assert "--learn cannot write this file" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"v", "weighting.json"}


def test_tables_keep_the_identity_of_their_run(tables: Path) -> None:
    saved = read_saved(tables)
    assert saved.spec["search"] == "exhaustive" and len(saved.schedule) == 1000
    assert len(saved.tables) == 8 and saved.tables[0].shape == (10, DRAWS)
    assert np.isfinite(saved.tables).all()


def test_tables_of_several_runs_are_never_mixed(run: Callable[..., Any], tmp_path: Path) -> None:
    """One command with several seeds writes a folder per run, also below a single run's folder."""
    given = {"search": "exhaustive", "limit": 3}
    run(**given, save_errors=str(tmp_path))
    (alone,) = replayed(tmp_path)
    other = tmp_path / "other"
    run(**given, seed=1, save_errors=str(other))
    assert replayed(tmp_path) == [alone] and alone["n"] == 3
    assert read_saved(other).spec["seed"] == 1
    (tmp_path / "run.json").unlink()
    with pytest.raises(UsageError, match=r"error tables of several runs.*other.*choose one"):
        replayed(tmp_path)
