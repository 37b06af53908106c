"""Model loading: revisions by content, and errors for broken models."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.log_messages import own_messages
from safetensors.torch import load_file, save_file

from diffcls.models import devices, loading
from diffcls.models.concepts import add_vectors
from diffcls.models.prompt_truncation import report_truncation
from diffcls.support.errors import ModelError, UsageError

Pipelines = Callable[[str], Path]
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
WEIGHTS = [UNET, VAE, TEXT]


@pytest.fixture
def folder(tmp_path: Path, tiny_pipeline: Pipelines) -> Path:
    """A copy of a complete pipeline, for tests to modify."""
    return Path(shutil.copytree(tiny_pipeline("v_prediction"), tmp_path / "mine"))


def change(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Edit the tensors of a file in place."""
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def card_of(folder: Path) -> Any:
    return loading.read_card(loading.ModelFiles(folder))


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# ---- revisions and cards ------------------------------------------------------------------------


def test_revision_depends_on_the_content_alone(tmp_path: Path, tiny_pipeline: Pipelines) -> None:
    one = tiny_pipeline("v_prediction")
    two = Path(shutil.copytree(one, tmp_path / "by another name"))
    cards = [card_of(one), card_of(two)]
    assert cards[0].revision == cards[1].revision
    assert [card.name for card in cards] == [one.name, "by another name"]
    (two / ".DS_Store").write_bytes(b"what a desktop leaves")
    (two / "unet/._config.json").write_bytes(b"what a desktop leaves")
    (two / "unet/diffusion_pytorch_model.bin").write_bytes(b"weights that are never opened")
    (two / "diffcls.json").write_text('{"name": "mine", "trained_on": ["a"]}')
    card = card_of(two)  # name and training data are not part of the content
    assert card.revision == cards[0].revision
    assert (card.name, card.trained_on) == ("mine", ("a",))
    assert loading.load(str(two)).card == card


def test_what_decides_numbers_is_part_of_the_revision(folder: Path) -> None:
    revisions = [card_of(folder).revision]
    for card in ('{"temperature": 2.5}', '{"temperature": 2.6}', '{"labels": ["a", "b"]}'):
        (folder / "diffcls.json").write_text(card)
        revisions.append(card_of(folder).revision)
    (folder / "diffcls.json").write_text('{"temperature": 1.0}')
    assert card_of(folder).revision == revisions[0]
    (folder / "tokenizer/spiece.model").write_bytes(b"pieces of words")
    revisions.append(card_of(folder).revision)
    assert len(set(revisions)) == 5


@pytest.mark.parametrize("weights", WEIGHTS)
def test_one_changed_weight_is_another_revision(folder: Path, weights: str) -> None:
    before = card_of(folder).revision

    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        name = min(n for n, t in tensors.items() if t.is_floating_point())
        tensors[name].view(-1)[0] += 0.25

    change(folder / weights, nudge)
    assert card_of(folder).revision != before


@pytest.mark.parametrize("config", ["scheduler/scheduler_config.json", "vae/config.json"])
def test_a_changed_config_is_another_revision(folder: Path, config: str) -> None:
    before = card_of(folder).revision
    rewrite(folder / config, beta_end=0.02, scaling_factor=0.5)
    assert card_of(folder).revision != before


def test_scaling_comes_from_the_config(folder: Path) -> None:
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain = loading.load(str(folder)).encode_images(images)
    rewrite(folder / "vae/config.json", scaling_factor=0.5, shift_factor=0.125)
    model = loading.load(str(folder))
    torch.testing.assert_close(model.encode_images(images), (plain - 0.125) * 0.5)
    torch.testing.assert_close(
        model.decode_latents(model.encode_images(images)),
        loading.load(str(folder)).decode_latents((plain - 0.125) * 0.5),
    )


# ---- refusals -----------------------------------------------------------------------------------


def test_unknown_name_is_refused_with_the_allowed_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown model: 'no-such-model'; allowed: .*PATH"):
        loading.load("no-such-model")
    with pytest.raises(ModelError, match="not a diffusers pipeline folder"):
        loading.load(str(tmp_path))


PARTS = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    "vae/config.json",
    *WEIGHTS,
]


@pytest.mark.parametrize("part", PARTS)
def test_missing_file_is_refused(folder: Path, part: str) -> None:
    (folder / part).unlink()
    with pytest.raises(ModelError) as caught:
        loading.load(str(folder))
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    assert str(folder / Path(part).parent) in str(caught.value)


@pytest.mark.parametrize("part", PARTS)
def test_truncated_file_is_refused(folder: Path, part: str) -> None:
    whole = (folder / part).read_bytes()
    (folder / part).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="mine"):
        loading.load(str(folder))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "scheduler", "tokenizer"])
def test_missing_part_is_refused(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(ModelError, match=f"a part of the model is missing: '{folder / part}'"):
        loading.load(str(folder))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_missing_tensor_is_named(folder: Path, weights: str) -> None:
    gone = sorted(load_file(folder / weights))[-1]
    change(folder / weights, lambda tensors: tensors.pop(gone))
    part = Path(weights).parent.name
    with pytest.raises(ModelError, match=f"1 tensors? .*missing in part '{part}'.*{gone}"):
        loading.load(str(folder))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_tensor_of_another_shape_is_refused(folder: Path, weights: str) -> None:
    name = sorted(load_file(folder / weights))[-1]

    def lengthen(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = torch.cat([tensors[name]] * 2)

    change(folder / weights, lengthen)
    with pytest.raises(ModelError, match=Path(weights).parent.name):
        loading.load(str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_that_are_not_finite_are_named(folder: Path, weights: str, value: float) -> None:
    name = sorted(load_file(folder / weights))[-1]
    change(folder / weights, lambda tensors: tensors[name].view(-1)[-1:].fill_(value))
    part = Path(weights).parent.name
    with pytest.raises(ModelError, match=f"weights of part '{part}' are not finite: '.*{name}'"):
        loading.load(str(folder))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_pickled_weights_are_never_opened(folder: Path, weights: str) -> None:
    path = folder / weights
    name = "pytorch_model.bin" if weights == TEXT else "diffusion_pytorch_model.bin"
    torch.save(load_file(path), path.with_name(name))
    loading.load(str(folder))  # safetensors beside them are loaded
    path.unlink()
    with pytest.raises(ModelError, match="safetensors"):
        loading.load(str(folder))


def test_family_that_is_not_supported_is_refused(folder: Path) -> None:
    rewrite(folder / "model_index.json", _class_name="CatPipeline")
    with pytest.raises(ModelError, match="family not supported: 'CatPipeline'; allowed: Stable"):
        loading.load(str(folder))


@pytest.mark.parametrize(
    "place", [["mine", "Net"], ["diffusers", "NoSuchNet"], ["transformers", "utils"]], ids=str
)
def test_part_with_custom_code_is_refused(folder: Path, place: list[str]) -> None:
    rewrite(folder / "model_index.json", unet=place)
    with pytest.raises(ModelError, match="unet"):
        loading.load(str(folder))


def test_part_missing_in_the_index_is_refused(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    del index["text_encoder"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="text_encoder"):
        loading.load(str(folder))


@pytest.mark.parametrize(
    ("change_to", "message"),
    [
        ({"in_channels": 9}, "9 input, 4 output and 4 latent channels"),
        ({"out_channels": 8}, "4 input, 8 output and 4 latent channels"),
        ({"cross_attention_dim": 64}, "expects width 64, the text encoder has 32"),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_refused(
    folder: Path, change_to: dict[str, int], message: str
) -> None:
    from diffusers import UNet2DConditionModel

    config = {**UNet2DConditionModel.load_config(folder / "unet"), **change_to}
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    with pytest.raises(ModelError, match=f"do not fit each other.*{message}"):
        loading.load(str(folder))


@pytest.mark.parametrize("size", [0, -32, 30, 2])
def test_image_size_must_fit_the_factor(tiny_pipeline: Pipelines, size: int) -> None:
    with pytest.raises(UsageError, match=f"image size does not fit the model: {size}"):
        loading.load(str(tiny_pipeline("v_prediction")), img_size=size)


def test_names_of_devices_and_types() -> None:
    assert devices.resolve_device("cpu") == "cpu"
    assert devices.resolve_dtype("bfloat16") is torch.bfloat16
    assert devices.resolve_dtype("auto") is None
    with pytest.raises(UsageError, match="unknown device: 'gpu'"):
        devices.resolve_device("gpu")
    with pytest.raises(UsageError, match=r"unknown dtype.*did you mean 'float16'"):
        devices.resolve_dtype("fp16")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autoencoder_stays_in_single_precision(
    tiny_pipeline: Pipelines, dtype: torch.dtype
) -> None:
    model: Any = loading.load(str(tiny_pipeline("v_prediction")), dtype=dtype)
    assert model.dtype == dtype
    assert {p.dtype for p in model.autoencoder.vae.parameters()} == {torch.float32}
    assert {p.dtype for p in model.network.parameters()} == {dtype}
    assert model.encode_images(torch.zeros(1, 3, 32, 32)).dtype == torch.float32


# ---- truncated prompts --------------------------------------------------------------------------


def test_prompts_that_differ_only_beyond_the_limit_are_refused(tiny_pipeline: Pipelines) -> None:
    model = loading.load(str(tiny_pipeline("v_prediction")))
    long = "a photo of " * 12
    with pytest.raises(ModelError, match=r"truncation to 20 tokens.*shorten the template"):
        model.encode_prompts([f"{long} 3", f"{long} 4"])


def test_truncated_prompt_raises_a_warning(
    tiny_pipeline: Pipelines, caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = loading.load(str(tiny_pipeline("v_prediction")))
    with caplog.at_level(logging.WARNING):
        model.encode_prompts(["a photo of a 3", "a photo of a 4"])
        assert not own_messages(caplog)
        model.encode_prompts(["3" + " a photo" * 30, "4" + " a photo" * 30])
    (message,) = own_messages(caplog)
    assert "2 prompts are truncated to 20 tokens" in message
    report_truncation(
        model.pipeline.tokenizer, ["3" + " a photo" * 30] * 2
    )  # one prompt given twice


def test_a_learned_word_counts_all_of_its_vectors(
    tiny_pipeline: Pipelines, caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = loading.load(str(tiny_pipeline("v_prediction")))
    width = model.pipeline.text_encoder.get_input_embeddings().weight.shape[-1]
    add_vectors(model.pipeline, "<mine>", {"text_encoder": torch.randn(15, width)})
    words = model.pipeline.tokenizer.model_max_length - 2 - 15  # beside both ends, all fit
    fits, cut = "3 " * words + "<mine>", "3 " * (words + 1) + "<mine>"
    with caplog.at_level(logging.WARNING):
        whole = model.encode_prompts([fits])["text"]
        assert not own_messages(caplog)
        model.encode_prompts([cut])
    (message,) = own_messages(caplog)
    assert f"1 prompts are truncated to 20 tokens, the first is {cut!r}" in message
    # as the encoder reads it: the last vector counts
    vectors = model.pipeline.text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        vectors[-1] += 1
    assert not torch.equal(model.encode_prompts([fits])["text"], whole)
    with pytest.raises(ModelError, match="two prompts are equal after truncation to 20 tokens"):
        model.encode_prompts([f"{cut} 4", f"{cut} 5"])
