"""Counterfactuals of a report: numbers of the Python call, made once, refused before any work."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.page_reader import PageReader
from helpers.refusals import refusal
from helpers.stored_runs import write_run

import diffcls
from diffcls import evaluate, report
from diffcls.cli.stored_command import options_of_command
from diffcls.editing.options import EditSettings
from diffcls.evaluation import plan
from diffcls.reports.page import counterfactuals
from diffcls.reports.page.galleries import wrong_images
from diffcls.reports.page.results import RunResults, read_run
from diffcls.reports.page.stored_options import Images
from diffcls.runs.record import Record
from diffcls.runs.stored import StoredRun, read_runs
from diffcls.support.errors import DataError
from diffcls.support.invariants import known
from diffcls.support.number_text import percent

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

FLAGS = "--limit 20 --draws 1 --seed 0 1 --threads 1 --quiet --no-check-model --json".split()
SETTINGS = EditSettings(steps=5)


@pytest.fixture(scope="module", autouse=True)
def quick_edits() -> Any:
    """Edits of fewer steps, which are the same in all other respects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counterfactuals, "edit_settings", lambda: SETTINGS)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on the digits, each with wrong images, and their page with the first strip."""
    out = tmp_path_factory.mktemp("edited")
    assert evaluate.main([*FLAGS, "--output-dir", str(out)]) == 0
    page_of(out, 1)
    return out


def page_of(folder: Path, count: int, *more: str) -> PageReader:
    flags = ["--rescore", "0", "--counterfactuals", str(count), "--output-dir", str(folder)]
    assert report.main([*flags, *more]) == 0
    return PageReader((folder / "report.html").read_text(encoding="utf-8"))


def strip_texts(reader: PageReader) -> list[str]:
    """Alternative texts of the pictures of all strips."""
    texts = reader.attributes("img", "alt")
    return [text for text in texts if re.match("Edit towards|The image before", text)]


def first_wrong(run: StoredRun) -> tuple[RunResults, Record]:
    results = read_run(run)
    return results, results.records[wrong_images(results)[0]]


@pytest.mark.slow
def test_the_posteriors_are_those_of_the_python_call_on_the_image(folder: Path) -> None:
    reader = PageReader((folder / "report.html").read_text(encoding="utf-8"))
    results, record = first_wrong(read_runs(folder).runs[0])
    images = Images(options_of_command).of(results.run)
    assert not isinstance(images, str)
    item = next(one for one in images[0].items if one.image_id == record.image_id)
    classifier = diffcls.ZeroShotImageClassifier.from_pretrained("digits", draws=1)
    prompts = list(results.run.spec["prompts"])
    found = classifier.counterfactual(
        item.open(), prompts[record.label], prompts, "{}", steps=SETTINGS.steps
    )
    assert (found.label, found.target) == (record.ranking[0], record.label)
    answer, label = results.name_of(found.label), results.name_of(found.target)
    expected = []
    for step in found.steps:
        start = "The image before any edit, as the model decodes it"
        if step.strength:
            start = f"Edit towards {label}, strength {step.strength:g}"
        p, q = (percent(float(step.posterior[k])) for k in (found.label, found.target))
        expected.append(f"{start}: {answer} {p}, {label} {q}")
    assert strip_texts(reader) == expected and len(expected) > 1
    heading = f"Smallest edit to {label}" if found.is_convincing else f"No edit makes it {label}"
    assert heading in reader.text


def test_they_are_computed_once_and_only_those_that_are_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(list((folder / "fits").glob("counterfactual-*.npz"))) == 1
    assert strip_texts(page_of(folder, 1))
    before = (folder / "report.html").read_bytes()

    def nothing(*_: Any) -> Any:
        raise AssertionError("computed once more")

    monkeypatch.setattr(plan, "make_plan", nothing)
    assert strip_texts(page_of(folder, 1)) and (folder / "report.html").read_bytes() == before
    assert not strip_texts(page_of(folder, 0))
    # of the second run alone, the first wrong image is another one
    run = read_runs(folder).runs[1]
    with pytest.raises(AssertionError, match="computed once more"):
        page_of(folder, 1, run.fingerprint)


def strips_made(
    folder: Path, count: int, failing: str, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, str]]:
    """Run and image of each strip of a page, all of which fail in one run."""
    runs, made = read_runs(folder).runs, list[tuple[str, str]]()
    edits = counterfactuals.Counterfactuals(count, folder, runs, options_of_command)

    def add(found: Any, results: RunResults, images: Any, records: Any) -> None:
        if results.run.fingerprint == failing:
            raise DataError("no edit")
        found.update({record.image_id: None for record in records})
        made.extend((results.run.fingerprint, record.image_id) for record in records)

    monkeypatch.setattr(edits, "_add", add)
    for run in runs:
        results = read_run(run)
        images = Images(options_of_command).of(run)
        strips = edits.of(results, images, wrong_images(results).tolist())
        assert strips.missing == ("no edit" if run.fingerprint == failing else "")
    return made


def test_the_count_is_of_the_page_and_goes_on_in_the_next_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = read_runs(folder).runs
    wrong = [len(wrong_images(read_run(run))) for run in runs]
    assert min(wrong) > 0
    made = strips_made(folder, wrong[0] + 1, "", monkeypatch)
    last = runs[1].fingerprint, first_wrong(runs[1])[1].image_id
    assert len(made) == wrong[0] + 1 and made[-1] == last
    # strips that could not be made are no part of it
    assert strips_made(folder, 1, runs[0].fingerprint, monkeypatch) == [last]


HEADERS = {
    "clip": "the method clip has no model that generates images",
    "diffusion": "the network of digits-pixels is a UNet2DModel",
    "controlled": "a run with --control needs a map of each image",
}


def write_uneditable(out: Path, kind: str) -> str:
    options = {"dataset": "digits", "model": "digits-pixels"}
    spec = {**options, "method": kind}
    if kind == "controlled":
        options = {"dataset": "digits", "model": "digits", "control": "canny"}
        spec = {**options, "method": "diffusion", "control": '{"kind": "canny"}'}
    return write_run(out, {"a": (0, 1)}, header={"options": options}, **spec)


@pytest.mark.parametrize("kind", HEADERS)
def test_a_run_whose_model_cannot_be_edited_is_refused_before_any_work(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fingerprint = write_uneditable(tmp_path, kind)
    monkeypatch.setattr(plan, "make_plan", lambda *_: pytest.fail("a model was loaded"))
    flags = ["--counterfactuals", "1", "--output-dir", str(tmp_path)]
    message = refusal(report.main, flags, None, capsys)
    assert f"{fingerprint[:8]}: {HEADERS[kind]}" in message
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("kind", ["clip", "controlled"])
def test_beside_a_run_that_can_be_edited_its_section_says_why_it_is_not(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "both")
    write_uneditable(tmp_path / "both", kind)
    reader = page_of(tmp_path / "both", 2, "dataset=digits", "seed=0")
    assert len(strip_texts(reader)) > 1
    assert f"No counterfactuals: {HEADERS[kind]}" in reader.text


@pytest.mark.parametrize("flag", ["--counterfactuals", "--rescore"])
def test_a_negative_count_is_refused(
    flag: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(report.main, [flag, "-1", "--output-dir", str(folder)], None, capsys)
    assert f"{flag} out of range: -1; allowed: 0 to" in message


# ---- many classes --------------------------------------------------------------------------------


def test_of_many_classes_the_most_probable_ones_and_the_label_are_kept(tmp_path: Path) -> None:
    size, label = 30, 25
    names = tuple(f"class {k}" for k in range(size))
    prompts: dict[str, Any] = {"prompts": names, "class_of": tuple(range(size))}
    write_run(tmp_path, {"a": (label, 12)}, class_names=names, **prompts)
    results, record = first_wrong(read_runs(tmp_path).runs[0])
    kept = counterfactuals.classes_of(results, record)
    assert kept == sorted([12, *range(9), label])


def test_among_some_classes_the_classifier_is_that_of_their_prompts_alone() -> None:
    from diffcls.classifiers.model_options import diffusion
    from diffcls.data import catalog
    from diffcls.data.load import load_dataset
    from diffcls.data.prompts import benchmark_prompts
    from diffcls.editing.method_counterfactual import among
    from diffcls.evaluation.options import EvaluationOptions

    data = load_dataset("digits", "test")
    options = EvaluationOptions(dataset="digits", draws=3, seed=5)
    built = diffusion(options, catalog.find("digits"), benchmark_prompts("digits", data))
    classes = [1, 4, 7]
    (result,) = among(built, options, classes).classify([data.items[0]])
    texts = [built.prompts.prompts[k] for k in classes]
    alone = diffcls.ZeroShotImageClassifier.from_pretrained("digits", draws=3, seed=5)
    answers: Any = alone(data.items[0].open(), texts, "{}")
    shares = np.exp(known(built.method.posterior_scale) * (result.scores - result.scores.max()))
    by_text = {one["label"]: one["score"] for one in answers}
    assert [by_text[text] for text in texts] == pytest.approx(list(shares / shares.sum()))
    assert among(built, options, list(range(10))) is built.method
