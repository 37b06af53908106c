"""Memory options: values that are wrong, exclude each other or lack their library are refused."""

from __future__ import annotations

from typing import Any

import pytest

from diffcls.models import memory_options
from diffcls.models.memory_options import (
    MemoryOptions,
    Quantisation,
    check_devices,
    check_memory_options,
    parse_quantisation,
)
from diffcls.support.errors import UsageError


def test_a_quantisation_is_its_parts_bits_and_library() -> None:
    assert parse_quantisation("text:8bit") == Quantisation("text", 8, "bitsandbytes")
    assert parse_quantisation("all:4bit:torchao") == Quantisation("all", 4, "torchao")
    assert str(parse_quantisation("network:4bit")) == "network:4bit:bitsandbytes"
    roles = ("text", "network", "autoencoder")
    assert [Quantisation("all", 8).includes(role) for role in roles] == [True, True, False]
    assert [Quantisation("text", 8).includes(role) for role in roles] == [True, False, False]


@pytest.mark.parametrize(
    "text", ["8bit", "text", "text:", "text:16bit", "vae:8bit", "all:8bit:gguf", "all:8bit::", ":"]
)
def test_any_other_quantisation_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--quantize is not PARTS:BITS"):
        parse_quantisation(text)


@pytest.mark.parametrize("library", ["bitsandbytes", "torchao"])
def test_a_library_that_is_not_installed_is_named_with_its_command(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_options, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"needs the library {library}.*pip install {library}"):
        check_memory_options(MemoryOptions(quantise=Quantisation("text", 8, library)))


@pytest.mark.parametrize(
    "options",
    [
        {"offload": "encoders", "device_map": "balanced"},
        {"offload": "sequential", "compile": True},
        {"device_map": "balanced", "compile": True},
        {"offload": "encoders", "quantise": Quantisation("all", 8)},
        {"device_map": "balanced", "quantise": Quantisation("all", 8)},
    ],
)
def test_options_that_move_or_rewrite_the_same_layers_exclude_each_other(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_options, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="exclude each other"):
        check_memory_options(MemoryOptions(**options))


@pytest.mark.parametrize("options", [{"offload": "disk"}, {"device_map": "auto"}])
def test_unknown_values_are_refused_with_the_known_ones(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="unknown --"):
        check_memory_options(MemoryOptions(**options))


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 4), ("cuda", 1), ("cpu", 0)])
def test_a_model_is_spread_over_two_gpus_or_more(device: str, gpus: int) -> None:
    with pytest.raises(UsageError, match=r"--device-map.*two GPUs or more"):
        check_devices(MemoryOptions(device_map="balanced"), device, gpus)
    check_devices(MemoryOptions(device_map="balanced"), "cuda", 2)


def test_offload_from_a_cpu_has_no_effect_and_is_refused() -> None:
    with pytest.raises(UsageError, match="--offload has no effect on a CPU"):
        check_devices(MemoryOptions(offload="encoders"), "cpu", 0)
    check_devices(MemoryOptions(offload="encoders"), "cuda:1", 2)
