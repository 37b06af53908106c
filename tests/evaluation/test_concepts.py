"""``evaluate --concept``: classes with a learned word, and what their rows state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import diffcls
from diffcls.data.added_classes import with_fillings
from diffcls.data.load import load_dataset
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts, choose_images
from diffcls.models import loading
from diffcls.support.errors import UsageError

TOKEN = "<mine>"


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose token has the embedding of the model's own word for 7."""
    denoiser: Any = loading.load("digits")
    pipeline = denoiser.pipeline
    (token_id,) = pipeline.tokenizer("7", add_special_tokens=False).input_ids
    row = pipeline.text_encoder.get_input_embeddings().weight[token_id].detach().clone()
    path = tmp_path_factory.mktemp("concept") / "seven.safetensors"
    save_file({TOKEN: row}, path)
    return path


def run(folder: Path, **options: Any) -> dict[str, Any]:
    (row,) = diffcls.run_evaluation(
        dataset="digits", limit=20, draws=6, output_dir=folder, quiet=True, **options
    )
    return row


@pytest.mark.slow
def test_a_word_with_the_vectors_of_another_gives_its_scores(seven: Path, tmp_path: Path) -> None:

    plain, other = run(tmp_path), run(tmp_path, concept=[f"{seven}=7"])
    assert other["fingerprint"] != plain["fingerprint"]
    assert other["accuracy"] == plain["accuracy"]
    assert other["evaluations_per_image"] == plain["evaluations_per_image"]
    assert "concept <mine>" in other["revision"]
    assert other["supervision"] == f"{plain['supervision']}; few-shot"
    # a finished run answers without loading the model
    assert run(tmp_path, concept=[f"{seven}=7"]) == other


@pytest.mark.slow
def test_synthetic_images_are_generated_with_the_concept(
    seven: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffcls.classifiers import synthetic
    from diffcls.classifiers.model_options import load_denoiser
    from diffcls.data import catalog

    monkeypatch.setattr(synthetic, "STEPS", 2)
    made = []
    for concept in (None, [f"{seven}=7"]):
        options = EvaluationOptions(method=["synthetic"], limit=10, concept=concept)
        assert "concept" not in options.unused()
        prompts = build_prompts(options, choose_images(options)[0])
        denoiser, _ = load_denoiser(options, catalog.find("digits"))
        made.append(synthetic.generate(denoiser, prompts, 1, 2.0, 16, seed=0, quiet=True)["images"])
    # the vectors are those of the class's own word, and no pixel differs
    assert (made[0] == made[1]).all() and made[0].shape == (10, 16, 16, 3)


def test_prompts_have_the_token(seven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = EvaluationOptions(limit=10, concept=[f"{seven}=7"])
    prompts = build_prompts(options, choose_images(options)[0])
    assert prompts.class_names[7] == "7"
    assert prompts.prompts[7] == "a photo of a handwritten digit <mine>."
    assert capsys.readouterr().err == ""
    added = EvaluationOptions(limit=10, concept=[str(seven)])
    prompts = build_prompts(added, choose_images(added)[0])
    assert prompts.class_names[10] == TOKEN and len(prompts.class_names) == 11
    assert "the class <mine> is added; digits has no image of it" in capsys.readouterr().err


def test_a_word_without_brackets_has_them_in_prompts_alone(tmp_path: Path) -> None:
    path = tmp_path / "Ven.safetensors"
    save_file({"emb_params": torch.ones(1, 96)}, path)
    options = EvaluationOptions(limit=10, concept=[str(path)])
    prompts = build_prompts(options, choose_images(options)[0])
    assert prompts.class_names[10] == "Ven"
    assert prompts.prompts[10] == "a photo of a handwritten digit <ven>."


def test_what_does_not_fit_is_refused(seven: Path, tmp_path: Path) -> None:
    for given, message in (
        ({"concept": [f"{seven}=7", f"{seven}=1"]}, "two concepts of one name: '<mine>'"),
        (
            {"concept": [f"{seven}=7"], "method": "clip"},
            "--draws has no effect here.*remove --draws --concept",
        ),
        ({"concept": [f"{seven}=7"], "quantize": "text:8bit"}, "--quantize and --concept exclude"),
        ({"concept": [f"{seven}=7"], "multi_label": True}, "--concept"),
        ({"concept": [str(tmp_path / "absent")]}, "--concept: not found"),
        (
            {"concept": [f"{seven}=7"], "method": ["diffusion", "clip"]},
            "--concept does not apply to --method clip: its model does not know the new word",
        ),
        ({"concept": [f"{seven}=7"], "search": "propose"}, "does not apply to --search propose"),
        ({"concept": [f"{seven}=7"], "combine": "clip"}, "does not apply to --combine clip"),
    ):
        with pytest.raises(UsageError, match=message):
            run(tmp_path, **given)
    prompts = tmp_path / "prompts.csv"
    rows = [f"digit {k},{k}" for k in range(10)]
    prompts.write_text("\n".join(["prompt,classidx", *rows]), encoding="utf-8")
    with pytest.raises(UsageError, match="no prompt of --prompts contains the concept: '<mine>'"):
        run(tmp_path, concept=[f"{seven}=7"], prompts=str(prompts))


def test_classes_that_cannot_be_renamed_are_refused() -> None:
    digits = load_dataset("digits", "test")
    (item, *_) = digits.items
    own = replace(digits, items=(replace(item, label=0, candidates=(item.label, 1)),))
    for data in (own, replace(digits, sentences=True)):
        with pytest.raises(UsageError, match="--concept needs classes that all images share"):
            with_fillings(data, {"x": TOKEN})


def test_a_label_is_found_whatever_its_case() -> None:
    digits = load_dataset("digits", "test")
    named = replace(digits, class_names=tuple(f"Digit {k}" for k in range(10)))
    assert with_fillings(named, {"digit 3": TOKEN}).prompt_names[3] == TOKEN
    assert with_fillings(named, {}) is named
    twice = replace(digits, class_names=("a", *digits.class_names[1:9], "a"))
    with pytest.raises(UsageError, match="several classes have the label: 'a'"):
        with_fillings(twice, {"a": TOKEN})


def test_a_class_conditional_model_is_refused(seven: Path, tmp_path: Path) -> None:
    with pytest.raises(diffcls.ModelError, match="a class-conditional model has no words"):
        run(tmp_path, concept=[f"{seven}=7"], model="digits-pixels")
    assert torch.is_grad_enabled()
