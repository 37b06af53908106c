"""Learned concepts in a model: the same rows and conditioning as in plain diffusers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from helpers.library_pipelines import Folders, folders
from safetensors.torch import save_file
from torch import Tensor

from diffcls.models import loading
from diffcls.models.concept_files import parse, tensors_of
from diffcls.models.concepts import check_new
from diffcls.models.quiet import quiet
from diffcls.support.errors import ModelError, UsageError

__all__ = ["folders"]
TOKEN, PROMPT = "<my-mug>", "a photo of <my-mug> three"
KEYS = {"sd1": {"": "text_encoder"}, "sdxl": {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}}
FAMILY = {"sd1": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}


def vectors_of(family: str, count: int, width: int = 32) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(count)
    parts = KEYS[family].values()
    return {part: 0.05 * torch.randn(count, width, generator=rng) for part in parts}


def write(path: Path, family: str, count: int = 1, width: int = 32) -> Path:
    tensors = tensors_of(TOKEN, vectors_of(family, count, width), FAMILY[family])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def plain(folder: Path, file: Path, family: str) -> Any:
    """The pipeline of plain diffusers, with the concept loaded by diffusers."""
    from safetensors.torch import load_file

    with quiet():
        pipeline = DiffusionPipeline.from_pretrained(folder)
        if family == "sd1":
            pipeline.load_textual_inversion(file.parent)
            return pipeline
        tensors = load_file(file)
        for key, part in KEYS[family].items():
            pipeline.load_textual_inversion(
                tensors[key],
                token=TOKEN,
                text_encoder=getattr(pipeline, part),
                tokenizer=getattr(pipeline, part.replace("text_encoder", "tokenizer")),
            )
    return pipeline


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_conditioning_is_that_of_plain_diffusers(
    tmp_path: Path, folders: Folders, family: str, count: int
) -> None:
    file = write(tmp_path / "mug" / "learned_embeds.safetensors", family, count)
    # the SDXL file does not name its token: its folder does
    source = shutil.copytree(file.parent, tmp_path / TOKEN) if family == "sdxl" else file.parent
    ours: Any = loading.load(str(folders(family)), concepts=(str(source),))
    pipeline = plain(folders(family), file, family)
    encoded = ours.encode_prompts([PROMPT])
    with torch.inference_mode():
        expected = pipeline.encode_prompt(
            PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    if family == "sdxl":
        assert torch.equal(encoded["pooled"], expected[2])
    assert torch.equal(encoded["text"], expected[0])


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_only_the_new_rows_are_new(tmp_path: Path, folders: Folders, family: str) -> None:
    file = write(tmp_path / f"{TOKEN}.safetensors", family, 2)
    before: Any = loading.load(str(folders(family)))
    after: Any = loading.load(str(folders(family)), concepts=(str(file),))
    for name, part in before.pipeline.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        weights = getattr(after.pipeline, name).state_dict()
        for key, value in part.state_dict().items():
            assert torch.equal(weights[key][: len(value)] if value.ndim else weights[key], value)
            if "token_embedding" in key:
                rows = vectors_of(family, 2)[name]
                assert torch.equal(weights[key][len(value) :], rows)
            else:
                assert weights[key].shape == value.shape


def test_prompts_without_the_token_are_as_before(tmp_path: Path, folders: Folders) -> None:
    file = write(tmp_path / "x.safetensors", "sd1")
    before: Any = loading.load(str(folders("sd1")))
    after: Any = loading.load(str(folders("sd1")), concepts=(f"{file}=mug",))
    prompt = ["a photo of three", "my-mug"]
    assert torch.equal(before.encode_prompts(prompt)["text"], after.encode_prompts(prompt)["text"])


@pytest.mark.parametrize("layout", ["row", "automatic1111"])
def test_files_made_elsewhere_give_the_same_conditioning(
    tmp_path: Path, folders: Folders, layout: str
) -> None:
    ours = write(tmp_path / "ours.safetensors", "sd1")
    (row,) = vectors_of("sd1", 1)["text_encoder"]
    other = tmp_path / f"{TOKEN}.safetensors"
    save_file({TOKEN: row} if layout == "row" else {"emb_params": row[None]}, other)
    one, two = (
        loading.load(str(folders("sd1")), concepts=(str(path),)).encode_prompts([PROMPT])["text"]
        for path in (ours, other)
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize("layout", ["row", "automatic1111"])
@pytest.mark.parametrize("word", ["irt", "My Irt", "irt-2.0", "ee"])
def test_a_word_without_brackets_changes_no_other_word(
    tmp_path: Path, folders: Folders, layout: str, word: str
) -> None:
    rows, path = vectors_of("sd1", 2)["text_encoder"], tmp_path / f"{word}.safetensors"
    save_file({word if layout == "row" else "emb_params": rows}, path)
    concept = parse(str(path))
    assert concept.label == word and concept.phrase == f"<{word.lower()}>"
    before: Any = loading.load(str(folders("sd1")))
    after: Any = loading.load(str(folders("sd1")), concepts=(str(path),))
    prompts = ["a shirt", "three my irt-2.0", "See Tshirts", word]
    assert before.prompt_keys(prompts) == after.prompt_keys(prompts)
    assert torch.equal(*(m.encode_prompts(prompts)["text"] for m in (before, after)))
    # in its place in a prompt it is what plain diffusers makes of the file
    with quiet():
        pipeline = DiffusionPipeline.from_pretrained(folders("sd1"))
        pipeline.load_textual_inversion(path, token="<x>")
    with torch.inference_mode():
        expected, _ = pipeline.encode_prompt("a photo of <x>s.", "cpu", 1, False)
    prompt = f"a photo of {concept.phrase}s."
    assert torch.equal(after.encode_prompts([prompt])["text"], expected)


def test_revision_has_the_content_of_the_concept(tmp_path: Path, folders: Folders) -> None:
    first, second = (write(tmp_path / f"{n}.safetensors", "sd1", n) for n in (1, 2))
    model = str(folders("sd1"))
    one, two = (loading.load(model, concepts=(str(p),)).card.revision for p in (first, second))
    assert one.startswith(loading.load(model).card.revision) and one != two
    assert "concept <my-mug>" in one
    card = loading.card_of_text_model(model, concepts=(str(first),))
    assert card is not None and card.revision == one


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits-pixels", "a class-conditional model has no words"),
        ("digits", "another width: 32; allowed: 96"),
    ],
)
def test_models_that_it_does_not_fit_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        loading.load(name, concepts=(str(write(tmp_path / "x.safetensors", "sd1")),))


def test_families_without_new_words_are_refused(tmp_path: Path, folders: Folders) -> None:
    with pytest.raises(ModelError, match=r"this model family cannot have new words: 'PixArt"):
        loading.load(
            str(folders("pixart")), concepts=(str(write(tmp_path / "x.safetensors", "sd1")),)
        )


def test_one_encoder_does_not_take_the_file_of_two(tmp_path: Path, folders: Folders) -> None:
    file = write(tmp_path / f"{TOKEN}.safetensors", "sdxl")
    with pytest.raises(ModelError, match="another family of models"):
        loading.load(str(folders("sd1")), concepts=(str(file),))


@pytest.mark.parametrize("token", ["a", TOKEN])
def test_a_token_of_the_model_is_refused(tmp_path: Path, folders: Folders, token: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({token: torch.ones(32)}, path)
    with pytest.raises(UsageError, match="is a token of the model already"):
        loading.load(str(folders("sd1")), concepts=(str(path),) * 2)
    model: Any = loading.load(str(folders("sd1")))
    with pytest.raises(UsageError, match="is a token of the model already: 'a'"):
        check_new(model.pipeline, "a", ("text_encoder",))


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path, folders: Folders) -> None:
    path = tmp_path / "x.safetensors"
    save_file({TOKEN: torch.full((32,), float("nan"))}, path)
    with pytest.raises(ModelError, match="not finite"):
        loading.load(str(folders("sd1")), concepts=(str(path),))


def test_texts_are_parsed(tmp_path: Path) -> None:
    file = write(tmp_path / "a=b.safetensors", "sd1")
    assert parse(str(file)).label == TOKEN and not parse(str(file)).is_given
    assert parse(f"{file}=mug") == parse(str(file)).__class__(
        file, TOKEN, "mug", is_given=True, is_lora=False
    )
    assert parse(f"{file}= mug ") == parse(f"{file}=mug")
    pickled = tmp_path / "x.bin"
    pickled.write_bytes(b"")
    lora, broken = tmp_path / "lora.safetensors", tmp_path / "broken.safetensors"
    save_file({"unet.a.lora_A.weight": torch.ones(2)}, lora)
    broken.write_bytes(b"no header")
    for text, message in (
        (str(pickled), "not found, or not safetensors"),
        (str(tmp_path / "absent"), "not found, or not safetensors"),
        (str(tmp_path), "no learned concept in the folder"),
        (str(lora), "needs the label of its class"),
        (str(broken), "cannot read the file as safetensors"),
        (f"{tmp_path / 'absent'}=", "cannot parse --concept"),
        (f"{file}=", "cannot parse --concept: no label after ="),
        (f"{tmp_path}= ", "cannot parse --concept: no label after ="),
    ):
        with pytest.raises((UsageError, ModelError), match=message):
            parse(text)
    (tmp_path / "concept.json").write_text(json.dumps({"name": TOKEN}))
    with pytest.raises(ModelError, match="card of a concept cannot be read"):
        parse(str(tmp_path))
