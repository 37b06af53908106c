"""Classifiers, evaluations and measurements on a diffusers pipeline in memory."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipeline_states import built, state_of
from sklearn.datasets import load_digits

import diffcls
from diffcls import UsageError, ZeroShotImageClassifier
from diffcls.models import loading

LABELS = ["three", "seven"]
OPTIONS: dict[str, Any] = {"dataset": "digits", "search": "exhaustive", "draws": 2, "limit": 4}


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return list(load_digits().images[[81, 45]] / 16)


@pytest.fixture
def pipeline() -> Any:
    import diffusers

    folder = loading.WEIGHTS / "digits"
    return diffusers.StableDiffusionPipeline.from_pretrained(str(folder))


def test_a_classifier_answers_as_one_from_the_same_files(
    pipeline: Any, images: list[np.ndarray]
) -> None:
    pipeline.unet.train()
    before = state_of(pipeline)
    options: dict[str, Any] = {"search": "exhaustive", "draws": 4, "seed": 3, "batch_size": 8}
    in_memory = ZeroShotImageClassifier.from_pipeline(pipeline, **options)
    from_files = ZeroShotImageClassifier.from_pretrained("digits", **options)
    assert in_memory(images, LABELS) == from_files(images, LABELS)
    assert state_of(pipeline) == before


def test_a_classifier_follows_the_weights_of_its_pipeline(images: list[np.ndarray]) -> None:
    pipeline = built("sd1")
    classifier = ZeroShotImageClassifier.from_pipeline(
        pipeline, search="exhaustive", draws=2, batch_size=8
    )
    first, revision = classifier(images, LABELS), classifier.denoiser.card.revision
    with torch.no_grad():
        pipeline.text_encoder.get_input_embeddings().weight.mul_(1.5)
        pipeline.unet.conv_out.weight.mul_(2)
    now = classifier(images, LABELS)
    renewed = ZeroShotImageClassifier.from_pipeline(
        pipeline, search="exhaustive", draws=2, batch_size=8
    )
    assert now == renewed(images, LABELS) != first
    assert classifier.denoiser.card.revision == renewed.denoiser.card.revision != revision


@pytest.mark.parametrize(
    "protocol", [pytest.param(0, marks=pytest.mark.slow), pickle.HIGHEST_PROTOCOL]
)
def test_a_pickled_classifier_has_the_weights_of_that_moment(
    images: list[np.ndarray], protocol: int
) -> None:
    pipeline = built("sd1")
    classifier = ZeroShotImageClassifier.from_pipeline(
        pipeline, search="exhaustive", draws=2, batch_size=8
    )
    with torch.no_grad():
        pipeline.unet.conv_out.weight.mul_(2)  # it follows: these are pickled
    content = pickle.dumps(classifier, protocol)
    wanted = classifier(images, LABELS)
    with torch.no_grad():
        pipeline.unet.conv_out.weight.mul_(2)
    again = pickle.loads(content)
    assert again(images, LABELS) == wanted != classifier(images, LABELS)


def test_classes_of_a_class_conditional_pipeline_have_the_given_names(
    images: list[np.ndarray],
) -> None:
    names = [str(i) for i in range(10)]
    classifier = ZeroShotImageClassifier.from_pipeline(
        built("class_unet"), search="exhaustive", draws=2, class_names=names
    )
    assert classifier.prompts(["7", "3"]).prompts == ("7", "3")
    with pytest.raises(UsageError, match="none of the model's classes"):
        classifier(images, LABELS)


def test_a_pipeline_is_no_name_to_load(pipeline: Any) -> None:
    with pytest.raises(UsageError, match=r"not a name or path: 'StableDiff.*from_pipeline"):
        ZeroShotImageClassifier.from_pretrained(pipeline)
    with pytest.raises(UsageError, match=r"a pipeline object: 'digits'.*from_pretrained"):
        ZeroShotImageClassifier.from_pipeline("digits")


# ---- evaluations -------------------------------------------------------------------------------


def evaluate(model: Any, output: Path, **options: Any) -> dict[str, Any]:
    (row,) = diffcls.run_evaluation(
        model=model,
        output_dir=str(output),
        quiet=True,
        batch_size=20,
        check_model=False,
        **{**OPTIONS, **options},
    )
    return row


def records_of(output: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    (path,) = (output / "runs" / row["fingerprint"]).glob("records-*.jsonl")
    own = ("seconds", "checksum", "fingerprint")
    lines = map(json.loads, path.read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in own} for line in lines]


def test_an_evaluation_has_the_scores_of_the_same_files_and_a_fingerprint_of_its_own(
    pipeline: Any, tmp_path: Path
) -> None:
    before = state_of(pipeline)
    row, of_files = evaluate(pipeline, tmp_path), evaluate("digits", tmp_path)
    assert records_of(tmp_path, row) == records_of(tmp_path, of_files)
    assert row["fingerprint"] != of_files["fingerprint"]
    assert row["model"] == "in-memory StableDiffusionPipeline (digits)"
    assert row["supervision"] == of_files["supervision"] == "model trained on this data set"
    header = json.loads((tmp_path / "runs" / row["fingerprint"] / "run.json").read_text())
    assert header["model_source"] == f"in-memory StableDiffusionPipeline of {pipeline.name_or_path}"
    assert header["spec"]["model_revision"] == row["revision"]
    after = state_of(pipeline)
    assert after == before


def test_the_same_weights_resume_a_run_and_others_begin_another(
    pipeline: Any, tmp_path: Path
) -> None:
    first = evaluate(pipeline, tmp_path)
    (path,) = (tmp_path / "runs" / first["fingerprint"]).glob("records-*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))  # as after an interruption
    pipeline.save_pretrained(tmp_path / "copy")
    copy = type(pipeline).from_pretrained(str(tmp_path / "copy"))
    resumed = evaluate(copy, tmp_path)
    assert resumed["fingerprint"] == first["fingerprint"] and resumed["n_scored"] == 4
    assert resumed["accuracy"] == first["accuracy"] and resumed["date"] == first["date"]
    with torch.no_grad():
        copy.unet.conv_out.bias[0] += 1e-3
    other = evaluate(copy, tmp_path)
    assert other["fingerprint"] != first["fingerprint"] and other["supervision"] == "unknown"


@pytest.mark.slow
def test_weights_of_unknown_origin_are_of_unknown_supervision(tmp_path: Path) -> None:
    assert evaluate(built("sd1"), tmp_path, limit=2)["supervision"] == "unknown"


@pytest.mark.slow
def test_precision_is_the_pipelines_own_unless_another_is_given(tmp_path: Path) -> None:
    pipeline = built("sd1").to(torch.bfloat16)
    rows = [evaluate(pipeline, tmp_path, limit=2, **given) for given in ({}, {"dtype": "float32"})]
    assert [row["dtype"] for row in rows] == ["bfloat16", "float32"]
    assert rows[0]["revision"] == rows[1]["revision"]
    assert pipeline.unet.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "clip", "search": None, "draws": None}, "--model is a pipeline in memory"),
        ({"version": "1-4"}, "exclude each other: 'in-memory StableDiffusionPipeline"),
        ({"model_config": "sd15"}, "--model-config is for models in files"),
    ],
)
def test_options_that_do_not_go_with_a_pipeline_are_refused_in_one_line(
    pipeline: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        evaluate(pipeline, tmp_path, **options)
    assert "\n" not in str(refused.value)


def test_a_lora_file_is_for_models_in_files(pipeline: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.touch()
    with pytest.raises(UsageError, match=r"--lora is for models in files.*load_lora_weights"):
        evaluate(pipeline, tmp_path, lora=str(path))


# ---- generation, fidelity, likelihood ----------------------------------------------------------


@pytest.mark.slow
def test_generated_images_likelihood_and_fidelity_are_those_of_the_same_files(
    pipeline: Any, tmp_path: Path
) -> None:
    import diffusers

    before = state_of(pipeline)
    folders = [
        diffcls.generate_images(model=m, output_dir=tmp_path, count=1, steps=2, quiet=True).folder
        for m in (pipeline, "digits")
    ]
    images = [sorted(folder.rglob("*.png")) for folder in folders]
    assert len(images[0]) == len(images[1]) == 11  # a grid, too
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*images, strict=True))
    pixels = diffusers.DDPMPipeline.from_pretrained(str(loading.WEIGHTS / "digits-pixels"))
    bounds = [
        diffcls.estimate_likelihood(model=m, limit=2, levels=2, quiet=True)
        for m in (pixels, "digits-pixels")
    ]
    assert bounds[0].value == bounds[1].value
    assert bounds[0].training_images == bounds[1].training_images
    assert state_of(pipeline) == before


def test_a_moved_classifier_keeps_its_precision_while_it_follows_its_pipeline(
    images: list[np.ndarray],
) -> None:
    pipeline = built("sd1")
    classifier = ZeroShotImageClassifier.from_pipeline(pipeline, draws=4)
    classifier(images[0], ["one", "two"])
    assert classifier.to(dtype="bfloat16") is classifier
    for _ in range(2):  # the second call looks for new weights again
        classifier(images[0], ["one", "two"])
        assert classifier.dtype == torch.bfloat16
    assert pipeline.unet.dtype == torch.float32


def test_a_stream_follows_the_weights_of_its_pipeline(images: list[np.ndarray]) -> None:
    pipeline = built("sd1")
    options: dict[str, Any] = {"search": "exhaustive", "draws": 2, "batch_size": 8}
    classifier = ZeroShotImageClassifier.from_pipeline(pipeline, **options)
    before = classifier(images, LABELS)
    stream = classifier(iter(images), LABELS)
    assert next(stream) == before[0]
    with torch.no_grad():  # of prompts and images: never one of them alone
        pipeline.text_encoder.get_input_embeddings().weight.mul_(1.5)
        pipeline.unet.conv_out.weight.mul_(2)
    renewed = ZeroShotImageClassifier.from_pipeline(pipeline, **options)
    assert next(stream) == renewed(images[1], LABELS) != before[1]


def test_a_classifier_is_moved_from_where_its_pipeline_is_now(images: list[np.ndarray]) -> None:
    pipeline = built("sd1")
    classifier = ZeroShotImageClassifier.from_pipeline(pipeline, draws=4)
    pipeline.to(torch.bfloat16)
    classifier.to(torch.float32)
    classifier(images[0], LABELS)
    assert classifier.dtype == torch.float32


def test_a_move_that_fails_leaves_the_classifier_as_it_was(
    images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffcls.models import in_memory

    classifier = ZeroShotImageClassifier.from_pipeline(built("sd1"), draws=4)
    before = classifier(images[0], LABELS)

    def failing(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(in_memory, "adapted", failing)
        with pytest.raises(MemoryError):
            classifier.to(torch.bfloat16)
    assert classifier(images[0], LABELS) == before
    assert classifier.dtype == torch.float32
