"""Evaluation with --search learned: its fit, its promise, its rows, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import text_gaussian
from helpers.answers import assert_independent_of_batches
from helpers.refusals import refusal
from PIL import Image

import diffcls
from diffcls import evaluate
from diffcls.classifiers import METHODS, fit_images, learned_screen
from diffcls.classifiers.base import Built
from diffcls.classifiers.screen_fit import Parts
from diffcls.classifiers.search_options import most_evaluations
from diffcls.data import catalog
from diffcls.data.dataset import Dataset, Item
from diffcls.data.load import load_dataset, load_split
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts, choose_images
from diffcls.runs.records import RecordStore
from diffcls.search import learned
from diffcls.support.cache import read_arrays
from diffcls.support.errors import DataError, RecordError, UsageError
from diffcls.support.hashing import hash_file

LEARNED = {"search": "learned", "candidates": 3, "fit_images": 50, "fit_classes": 10}
LIMIT, CLASSES = 12, 10


@pytest.fixture(autouse=True)
def analytic_model(monkeypatch: pytest.MonkeyPatch) -> None:
    text_gaussian.use(monkeypatch)


def options(output: Path, **more: Any) -> dict[str, Any]:
    few = {"limit": LIMIT, "draws": 8, "quiet": True, "check_model": False}
    return {"output_dir": str(output), **few, **LEARNED, **more}


def run(output: Path, **more: Any) -> dict[str, Any]:
    (row,) = diffcls.run_evaluation(**options(output, **more))
    return row


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with one complete run, and its row."""
    output = tmp_path_factory.mktemp("learned")
    with pytest.MonkeyPatch.context() as patch:
        text_gaussian.use(patch)
        return output, run(output)


@pytest.fixture
def fits(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A new output folder with the fit of `first` and no run."""
    shutil.copytree(first[0] / "fits", tmp_path / "out" / "fits")
    return tmp_path / "out"


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fit_prediction", "calibrated"):
        monkeypatch.setattr(learned_screen, name, lambda *_: pytest.fail("fitted again"))


def fit_file(output: Path) -> Path:
    (path,) = (output / "fits").glob("learned-screen-*.npz")
    return path


def records(output: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in output.glob("runs/*/records-*.jsonl"):
        for one in map(json.loads, path.read_text().splitlines()):
            assert one["image_id"] not in found
            found[one["image_id"]] = {k: one[k] for k in ("scores", "ranking", "evaluations")}
    return found


def built(given: dict[str, Any]) -> tuple[Built, Dataset]:
    read = EvaluationOptions(**given)
    data, _ = choose_images(read)
    spec = catalog.find(read.dataset)
    return METHODS.load("diffusion").build(read, spec, build_prompts(read, data)), data


# ---- results -----------------------------------------------------------------------------------


def test_row_states_what_it_was_fitted_on(first: tuple[Path, dict[str, Any]]) -> None:
    output, row = first
    assert row["status"] == "complete" and row["n_scored"] == LIMIT
    assert row["search"] == "learned" and row["fingerprint"]
    assert "fit=digits/train" in row["setting"] and "candidates=3" in row["setting"]
    assert "fit_images=50" in row["setting"] and "fit_classes=10" in row["setting"]
    fit = read_arrays(fit_file(output), "fit")
    images = int(fit["calibration_images"])
    assert images == 12 and 0 <= float(fit["survival"]) <= images / (images + 1)
    for one in records(output).values():
        assert sorted(one["ranking"]) == list(range(CLASSES))
        assert np.isfinite(one["scores"]).all()
        assert one["scores"][one["ranking"][0]] == max(one["scores"])


def test_no_image_costs_more_than_stated(first: tuple[Path, dict[str, Any]], fits: Path) -> None:
    row = run(fits, dry_run=True)
    # two points of three evaluations, each class looked at, three classes on all draws
    assert row["evaluations_per_image_at_most"] == 2 * 3 + CLASSES + 3 * 8
    costs = [one["evaluations"] for one in records(first[0]).values()]
    assert 6 + 3 < min(costs) <= max(costs) <= row["evaluations_per_image_at_most"]


def test_answers_do_not_depend_on_order_or_company(fits: Path, no_fit: None) -> None:
    one, data = built(options(fits, limit=30, batch_size=16))
    assert_independent_of_batches(one.method, list(data.items))


def test_shards_have_the_answers_of_the_whole(
    first: tuple[Path, dict[str, Any]], fits: Path, no_fit: None
) -> None:
    for shard in ("0/2", "1/2"):
        diffcls.run_evaluation(**options(fits, shard=shard))
    assert records(fits) == records(first[0])


def test_most_winners_are_those_of_racing(
    first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run(tmp_path, search="racing", candidates=None, fit_images=None, fit_classes=None)
    raced, ours = records(tmp_path), records(first[0])
    same = sum(raced[i]["ranking"][0] == one["ranking"][0] for i, one in ours.items())
    assert same >= LIMIT - 2
    assert np.mean([one["evaluations"] for one in ours.values()]) < CLASSES * 8


def test_no_more_classes_than_candidates_need_no_fit(tmp_path: Path, no_fit: None) -> None:
    row = run(tmp_path, candidates=CLASSES, limit=3)
    assert row["n_scored"] == 3 and not (tmp_path / "fits").exists()


# ---- the fit in the cache -----------------------------------------------------------------------


def test_repeated_run_fits_nothing(
    first: tuple[Path, dict[str, Any]], fits: Path, no_fit: None
) -> None:
    again = run(fits)
    assert {k: v for k, v in again.items() if k in ("fingerprint", "accuracy", "setting")} == {
        k: first[1][k] for k in ("fingerprint", "accuracy", "setting")
    }
    assert records(fits) == records(first[0])


def test_interrupted_run_goes_on_with_the_same_answers(
    first: tuple[Path, dict[str, Any]], fits: Path, no_fit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, seen = RecordStore.append, []

    def cut_off(store: RecordStore, record: Any) -> None:
        append(store, record)
        seen.append(record)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RecordStore, "append", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(fits)
    assert len(records(fits)) == 4
    assert run(fits)["n_scored"] == LIMIT
    assert records(fits) == records(first[0])


def test_truncated_fit_is_reported(fits: Path) -> None:
    path = fit_file(fits)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecordError, match=r"cannot be read.*delete the file"):
        run(fits)
    assert not records(fits)


def test_a_fit_is_another_with_other_images_classes_or_options(
    first: tuple[Path, dict[str, Any]], fits: Path, tmp_path: Path, no_fit: None
) -> None:
    photos = saved_photos(tmp_path / "photos", 50)
    changes: list[dict[str, Any]] = [
        {"fit_images": 51},
        {"fit_classes": 11},
        {"fit_folder": str(photos)},
        {"draws": 9},
        {"confidence": 0.9},
        {"template": "{}"},
        {"seed": 1},
    ]
    rows = [run(fits, dry_run=True, **change) for change in changes]
    found = {row["fingerprint"] for row in rows}
    assert len(found) == len(changes) and first[1]["fingerprint"] not in found
    # none of them finds its fit in the cache, and each states what it takes; with another
    # confidence the regression stays
    takes = [row.pop("fit_evaluations") for row in rows]
    calibration = takes.pop(4)
    assert 12 * CLASSES < calibration < 1000 < min(takes)
    assert run(fits, dry_run=True)["fingerprint"] == first[1]["fingerprint"]


def test_another_confidence_changes_the_calibration_alone(
    first: tuple[Path, dict[str, Any]], fits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fit_file(fits)
    with monkeypatch.context() as patch:
        patch.setattr(learned_screen, "fit_prediction", lambda *_: pytest.fail("fitted again"))
        patch.setattr(learned, "SCREEN_SHARE", 0.2)  # or 12 images promise the same
        run(fits, confidence=0.1, limit=2)
    (after,) = set((fits / "fits").glob("learned-screen-*.npz")) - {before}
    old, new = read_arrays(before, "fit"), read_arrays(after, "fit")
    same = {name for name, array in old.items() if np.array_equal(array, new[name])}
    assert set(old) - same <= {"defined_by", "caution", "survival", "evaluations"}
    assert float(new["survival"]) < float(old["survival"])


def test_cost_and_promise_are_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, quiet=False, limit=2)
    shown = capsys.readouterr().err
    fit = read_arrays(fit_file(tmp_path), "fit")
    assert f"the screen was fitted by {int(fit['evaluations']):,} evaluations" in shown
    assert f"survives it with a probability of {float(fit['survival']):.1%} or more" in shown
    # 12 images cannot promise 99 %
    assert "(12 calibration images), less than the 99.5% of --confidence 0.95" in shown
    assert "diffusion is fitted first:" in shown


# ---- the unlabelled images ----------------------------------------------------------------------


def saved_photos(folder: Path, count: int) -> Path:
    """A folder of plain images of the training split, some of them in a subfolder."""
    (folder / "more").mkdir(parents=True)
    for i, item in enumerate(load_dataset("digits", "train").items[:count]):
        item.open().save(folder / ("more" if i % 2 else "") / f"{i}.png")
    return folder


def test_labels_of_the_images_are_never_read(
    first: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Blind(Item):
        """An image whose label cannot be read."""

        @property
        def class_index(self) -> int:
            pytest.fail("a label is read")

    def load(options: EvaluationOptions, split: str) -> Dataset:
        asked.append(split)
        data = load_split(options, split)
        unread = tuple(Blind(i.image_id, 0, i.open) for i in data.items)
        object.__setattr__(data, "items", unread)  # without the checks of labels
        return data

    monkeypatch.setattr(fit_images, "load_split", load)
    row = run(tmp_path, limit=2)
    assert asked == ["train"]  # never the images that are scored
    assert row["setting"] == first[1]["setting"]
    ours, theirs = (read_arrays(fit_file(path), "fit") for path in (tmp_path, first[0]))
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        assert np.array_equal(array, theirs[name]), name


def test_a_folder_of_plain_images_serves_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = saved_photos(tmp_path / "photos", 50)
    (photos / "notes.txt").write_text("no image")
    (photos / "broken.png").write_bytes(b"no image either")
    row = run(tmp_path / "out", fit_folder=str(photos), fit_images=60, limit=3, quiet=False)
    assert row["n_scored"] == 3 and "fit=photos" in row["setting"]
    shown = capsys.readouterr().err
    assert "1 images of the fit cannot be read" in shown
    assert "(12 calibration images)" in shown


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs the command with refused flags; returns its line on stderr."""

    def command(*flags: object, search: str = "learned") -> str:
        fixed = ["--search", search, "--output-dir", tmp_path / "refused", "--quiet"]
        return refusal(evaluate.main, [*fixed, "--limit", "2", *flags], None, capsys)

    return command


SMALL = ("--candidates", "3", "--fit-images", "50", "--fit-classes", "10")


def test_a_folder_without_enough_images_is_refused(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    assert "--fit-folder is not a folder" in refused(*SMALL, "--fit-folder", empty)
    empty.mkdir()
    (empty / "notes.txt").write_text("no image")
    assert "--fit-folder contains no image" in refused(*SMALL, "--fit-folder", empty)
    for name in ("a", "b", "c"):
        Image.new("L", (8, 8)).save(empty / f"{name}.png")
    message = refused(*SMALL, "--fit-folder", empty)
    assert "too few" in message and "3" in message and "50" in message


def test_data_without_a_training_split_names_the_folder(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    for k in range(5):
        folder = tmp_path / "own" / "test" / f"class {k}"
        folder.mkdir(parents=True)
        Image.new("L", (8, 8), 40 * k).save(folder / "one.png")
    message = refused(*SMALL, "--dataset", f"folder:{tmp_path / 'own'}", "--model", "digits")
    assert "fitted on unlabelled images of the training split" in message
    assert "--fit-folder" in message


def test_images_that_are_scored_are_never_those_of_the_fit(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    for k in range(6):
        folder = tmp_path / "own" / f"class {k}"
        folder.mkdir(parents=True)
        for i in range(10):
            Image.new("L", (8, 8), 40 * k + i).save(folder / f"{i}.png")
    own = ("--dataset", f"folder:{tmp_path / 'own'}", "--model", "digits")
    own = (*own, "--template", "{}", "--draws", "4", "--no-check-model")
    message = refused(*own, "--candidates", "3")
    assert "--search learned" in message and "not divided into splits" in message
    for flags in (("--class-bias", "10"), ("--combine", "clip"), ("--reject",)):
        message = refused(*own, *flags, search="racing")
        assert f"{flags[0]} is fitted on other images" in message
        assert "not divided into splits" in message
    records = list(tmp_path.glob("refused/runs/*/records-*"))
    assert not any(path.stat().st_size for path in records)


# ---- a fit of other classes ---------------------------------------------------------------------


def test_a_fit_of_another_label_set_is_calibrated_for_its_new_classes(
    first: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learned_screen, "fit_regression", lambda *_: pytest.fail("fitted"))
    path = fit_file(first[0])
    row = run(tmp_path, dataset="scenes:24", fit=str(path), limit=4, quiet=False)
    assert row["n_scored"] == 4
    own, other = (read_arrays(fit_file(folder), "fit") for folder in (tmp_path, first[0]))
    shown = capsys.readouterr().err
    assert f"{float(own['survival']):.1%} or more (34 calibration images)" in shown
    # the regression is that of the other, all else is measured on these prompts
    for name in ("axes", "image_w1", "class_w2", "beta", "prompts"):
        assert np.array_equal(own[name], other[name])
    assert not np.array_equal(own["covariance"], other["covariance"])
    assert len(other["components"]) == CLASSES and len(own["components"]) == 24
    assert own["components"].shape[1] == other["components"].shape[1]
    assert "fit=" in row["setting"] and "fit=digits/train" not in row["setting"]


def test_a_file_that_is_no_fit_of_this_model_is_refused(
    refused: Callable[..., str], first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    missing = tmp_path / "missing.npz"
    assert "--fit: file not found" in refused(*SMALL, "--fit", missing)
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    assert "--fit is not the whole fit" in refused(*SMALL, "--fit", text)
    np.savez(tmp_path / "arrays.npz", axes=np.zeros(3))
    assert "--fit is not the whole fit of a learned screen" in refused(
        *SMALL, "--fit", tmp_path / "arrays.npz"
    )
    path = fit_file(first[0])
    arrays: dict[str, Any] = read_arrays(path, "fit")
    defined_by = json.loads(str(arrays["defined_by"]))
    version, model = defined_by["version"], defined_by["model"]
    for name, value in (("model", ["sd2-base", "abc"]), ("version", version - 1)):
        changed = np.array(json.dumps({**defined_by, name: value}))
        np.savez(tmp_path / "other.npz", **{**arrays, "defined_by": changed})
        message = refused(*SMALL, "--draws", "8", "--fit", tmp_path / "other.npz")
        shown, own = (" ".join(value), " ".join(model)) if name == "model" else (value, version)
        assert f"--fit was made with another {name}: '{name} {shown}'" in message
        assert f"allowed: {name} {own}" in message
    # earlier versions repeated a part of the definition, which is not read
    path = tmp_path / "earlier.npz"
    np.savez(path, **arrays, settings=np.array("{}"))
    for flags, given in {
        ("--draws", "9"): "draws: 'draws 8'; allowed: draws 9",
        ("--draws", "8", "--seed", "1"): "seed: 'seed 0'; allowed: seed 1",
        ("--draws", "8", "--loss", "l1"): "loss: 'loss l2'; allowed: loss l1",
    }.items():
        assert f"--fit was made with another {given}" in refused(*SMALL, *flags, "--fit", path)


def test_images_of_the_carried_regression_calibrate_no_other_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = saved_photos(tmp_path / "photos", 130)
    parts: list[Parts] = []
    fit_prediction = learned_screen.fit_prediction

    def noted(*given: Any) -> Any:
        parts.append(given[2])
        return fit_prediction(*given)

    monkeypatch.setattr(learned_screen, "fit_prediction", noted)
    folder = str(photos)
    run(tmp_path / "a", fit_folder=folder, fit_images=60, limit=2)
    path = fit_file(tmp_path / "a")
    run(tmp_path / "b", dataset="scenes:24", fit=str(path), fit_folder=folder, limit=2)
    old, new = parts
    names = {item.image_id for item in old.regression}
    regression = set(json.loads(str(read_arrays(path, "fit")["fitted_on"])))
    assert regression == {hash_file(photos / name) for name in names}
    assert not new.regression
    others = {item.image_id for item in (*new.residual, *new.calibration)}
    assert len(others) == 50 and not others & names  # as many as were asked for
    # too few others: refused, not shared
    spare = [file for file in sorted(photos.rglob("*.png")) if hash_file(file) not in regression]
    for file in spare[49:]:
        file.unlink()
    with pytest.raises(DataError, match=r"too few.*without those of the regression of --fit"):
        run(tmp_path / "c", dataset="scenes:24", fit=str(path), fit_folder=folder, limit=2)


@pytest.mark.parametrize("flag", ["--fit", "--fit-folder"])
def test_a_fit_where_all_classes_race_is_refused(
    refused: Callable[..., str], first: tuple[Path, dict[str, Any]], tmp_path: Path, flag: str
) -> None:
    value = fit_file(first[0]) if flag == "--fit" else tmp_path
    message = refused("--candidates", "10", "--draws", "8", flag, value)
    assert f"{flag} is of no use: all 10 classes race" in message


# ---- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--fit-images 49", "fit-images out of range: 49; allowed: 50 to"),
        ("--fit-classes 9", "fit-classes out of range: 9; allowed: 10 to"),
        ("--reject", "--search learned and --reject exclude each other"),
        ("--class-bias 100", "--search learned and --class-bias exclude each other"),
        ("--combine clip", "--search learned and --combine exclude each other"),
        ("--budget 1h", "--search learned and --budget exclude each other"),
        ("--split train", "fitted on images of the training split: '--split train'"),
    ],
)
def test_what_a_fitted_search_cannot_do_is_refused(
    refused: Callable[..., str], flags: str, message: str
) -> None:
    assert message in refused(*flags.split())


@pytest.mark.parametrize("flag", ["--fit-images", "--fit-classes"])
@pytest.mark.parametrize("search", ["racing", "gradient"])
def test_size_of_a_fit_with_another_search_is_refused(
    refused: Callable[..., str], flag: str, search: str
) -> None:
    message = refused(flag, "50", search=search)
    assert flag[2:] in message.replace("_", "-") and search in message


@pytest.mark.parametrize("flag", ["--fit", "--fit-folder"])
def test_file_of_a_fit_with_another_search_is_refused(
    refused: Callable[..., str], flag: str, tmp_path: Path
) -> None:
    message = refused(flag, tmp_path, search="racing")
    assert flag[2:] in message and "learned" in message


def test_a_python_call_has_no_images_to_fit_on() -> None:
    with pytest.raises(UsageError, match=r"learned.*unlabelled images.*search='gradient'"):
        diffcls.ZeroShotImageClassifier.from_pretrained("digits", search="learned")


def test_bound_of_the_cost_is_that_of_the_search(fits: Path, no_fit: None) -> None:
    one, _ = built(options(fits))
    assert most_evaluations(one.method.search, one.prompts) == 2 * 3 + CLASSES + 3 * 8  # type: ignore[attr-defined]
