"""Revisions of pipelines in memory: what decides numbers is in them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pipeline_states import built

from diffcls.models.pipeline_revision import description_of, revision_of, state_of
from diffcls.support.hashing import canonical_json

Change = Callable[[Any], object]


@pytest.fixture
def sd1() -> Any:
    return built("sd1")


@torch.no_grad()
def _one_weight(pipeline: Any) -> None:
    pipeline.unet.conv_out.bias[0] = torch.nextafter(
        pipeline.unet.conv_out.bias[0], torch.tensor(1.0)
    )


@torch.no_grad()
def _weight_of_the_text_encoder(pipeline: Any) -> None:
    next(pipeline.text_encoder.parameters())[0, 0] += 1


def _prediction_type(pipeline: Any) -> None:
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config, prediction_type="v_prediction"
    )


def _noise_schedule(pipeline: Any) -> None:
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config, beta_end=0.013
    )


def _scaling_factor(pipeline: Any) -> None:
    pipeline.vae.register_to_config(scaling_factor=0.21)


def _padding_token(pipeline: Any) -> None:
    from copy import deepcopy

    pipeline.tokenizer = deepcopy(pipeline.tokenizer)
    pipeline.tokenizer.pad_token = "a"


def _vocabulary(pipeline: Any) -> None:
    from copy import deepcopy

    pipeline.tokenizer = deepcopy(pipeline.tokenizer)
    pipeline.tokenizer.add_tokens(["<mine>"])


def _number_of_tokens(pipeline: Any) -> None:
    from copy import deepcopy

    pipeline.tokenizer = deepcopy(pipeline.tokenizer)
    pipeline.tokenizer.model_max_length = 20


def _activation_of_the_text_encoder(pipeline: Any) -> None:
    pipeline.text_encoder.config.hidden_act = "gelu"


def _precision_of_the_text_encoder(pipeline: Any) -> None:
    pipeline.text_encoder.half()


CHANGES: list[Change] = [
    _one_weight,
    _weight_of_the_text_encoder,
    _prediction_type,
    _noise_schedule,
    _scaling_factor,
    _padding_token,
    _vocabulary,
    _number_of_tokens,
    _activation_of_the_text_encoder,
    _precision_of_the_text_encoder,
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_a_number_changes_the_revision(sd1: Any, change: Change) -> None:
    before = revision_of(sd1)
    change(sd1)
    assert revision_of(sd1) != before


def _use_the_tokenizer(pipeline: Any) -> None:
    pipeline.tokenizer(["zero"], padding="max_length", max_length=9, truncation=True)


def _channels_last(pipeline: Any) -> None:
    pipeline.unet.to(memory_format=torch.channels_last)


def _reversed_modules(pipeline: Any) -> None:
    for module in pipeline.unet.modules():
        for name in ("_parameters", "_buffers"):
            setattr(module, name, dict(reversed(getattr(module, name).items())))


def _reversed_config(pipeline: Any) -> None:
    from diffusers.configuration_utils import FrozenDict

    entries = dict(pipeline.scheduler.config)
    pipeline.scheduler._internal_dict = FrozenDict(dict(reversed(entries.items())))


def _training(pipeline: Any) -> None:
    pipeline.unet.train().requires_grad_(False)


def _use_of_hidden_states(pipeline: Any) -> None:
    """transformers registers hooks that record them on first use."""
    pipeline.text_encoder(torch.tensor([[1, 2]]), output_hidden_states=True)


IRRELEVANT: list[Change] = [
    _use_the_tokenizer,
    _channels_last,
    _reversed_modules,
    _reversed_config,
    _training,
    _use_of_hidden_states,
]


@pytest.mark.parametrize("change", IRRELEVANT)
def test_what_decides_no_number_leaves_the_revision(sd1: Any, change: Change) -> None:
    before = revision_of(sd1)
    change(sd1)
    assert revision_of(sd1) == before


def test_a_half_autoencoder_has_the_revision_of_its_values_in_single_precision(sd1: Any) -> None:
    sd1.vae.half()
    in_half = revision_of(sd1)
    sd1.vae.float()
    assert revision_of(sd1) == in_half


def test_the_hash_is_that_of_an_independent_reading(sd1: Any) -> None:
    """SHA-256 of the description, then name, type, shape and bytes of each tensor by name."""
    import hashlib

    digest = hashlib.sha256(canonical_json(description_of(sd1)).encode())
    for name in ("text_encoder", "unet", "vae"):
        tensors = getattr(sd1, name).state_dict()
        named = {path.replace("text_model.", ""): t for path, t in tensors.items()}
        for path in sorted(named):
            if named[path].is_floating_point():
                array = named[path].numpy()
                digest.update(f"{name}.{path} torch.float32 {array.shape}".encode())
                digest.update(array.astype("<f4").tobytes())
    assert revision_of(sd1) == digest.hexdigest()[:16]


def test_nothing_of_files_and_versions_is_in_the_description(sd1: Any, tmp_path: Path) -> None:
    sd1.register_to_config(_name_or_path=str(tmp_path))
    text = canonical_json(description_of(sd1))
    assert "version" not in text and str(tmp_path) not in text


def test_defaults_that_a_later_library_adds_change_no_revision(sd1: Any) -> None:
    before = description_of(sd1)
    assert "num_train_timesteps" not in before["parts"]["scheduler"]["config"]  # the default
    assert before["parts"]["scheduler"]["config"]["beta_start"] == 0.00085


@pytest.mark.parametrize("change", CHANGES)
def test_the_state_of_a_pipeline_changes_with_its_numbers(sd1: Any, change: Change) -> None:
    before = state_of(sd1)
    assert state_of(sd1) == before
    change(sd1)
    assert state_of(sd1) != before


@pytest.mark.parametrize("write", ["data", "version"])
def test_the_state_notices_an_exchange_of_weights_and_a_write_past_the_counter(
    sd1: Any, write: str
) -> None:
    before, bias = state_of(sd1), sd1.unet.conv_out.bias
    with torch.no_grad():
        if write == "data":
            bias.data[0] += 1
        else:
            bias.copy_(bias.flip(0))  # the same sum
    assert state_of(sd1) != before
