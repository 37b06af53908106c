"""Residence of a model's parts: one role on the device at a time, and the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.library_pipelines import Folders, folders  # noqa: F401
from torch import Tensor, nn

from diffcls.models import loading
from diffcls.models.memory_options import MemoryOptions
from diffcls.models.residence import Residence

PROMPTS = ["a photo of a three", "zero"]


class Part(nn.Module):
    """Records where it is; a CPU has no second device."""

    def __init__(self) -> None:
        super().__init__()
        self.place = "made"

    def to(self, device: Any) -> Part:  # type: ignore[override]
        self.place = torch.device(device).type
        return self


def held(offload: str) -> tuple[Residence, dict[str, Part]]:
    residence = Residence(torch.device("meta"), offload)
    parts = {role: Part() for role in ("text", "autoencoder", "network")}
    for role, part in parts.items():
        residence.hold(role, part)
    return residence, parts


def places(parts: dict[str, Part]) -> dict[str, str]:
    return {role: part.place for role, part in parts.items()}


def test_without_offload_all_parts_are_on_the_device_from_the_start() -> None:
    residence, parts = held("none")
    assert set(places(parts).values()) == {"meta"}
    residence.need("network")
    assert set(places(parts).values()) == {"meta"}


def test_with_offload_only_the_parts_of_the_role_that_computes_are_on_the_device() -> None:
    residence, parts = held("encoders")
    assert set(places(parts).values()) == {"cpu"}
    for role in ("text", "autoencoder", "network", "autoencoder", "network"):
        residence.need(role)
        assert places(parts) == {other: "meta" if other == role else "cpu" for other in parts}


def outputs(model: Any) -> list[Tensor]:
    cond = model.encode_prompts(PROMPTS)
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    x0 = model.encode_images(images)
    with torch.inference_mode():
        out = model.predict(x0.to(model.dtype), torch.tensor([30, 700]), cond)
        with model.float32():
            whole = model.predict(x0, torch.tensor([30, 700]), cond)
        again = model.predict(x0.to(model.dtype), torch.tensor([30, 700]), cond)
        images = model.decode_latents(x0)
    return [*cond.values(), x0, out, whole, again, images]


@pytest.mark.parametrize(
    ("name", "offload", "dtype"),
    [
        ("sd2", "encoders", torch.float32),
        ("sdxl", "sequential", torch.bfloat16),
        ("sd3", "sequential", torch.float32),
        ("flux", "encoders", torch.bfloat16),
    ],
)
def test_offloaded_parts_compute_the_same_bits(
    name: str,
    offload: str,
    dtype: torch.dtype,
    folders: Folders,  # noqa: F811
) -> None:
    folder = str(folders(name))
    plain = loading.load(folder, "cpu", dtype, 32)
    model = loading.load(folder, "cpu", dtype, 32, memory=MemoryOptions(offload=offload))
    for expected, value in zip(outputs(plain), outputs(model), strict=True):
        assert torch.equal(expected, value)


def test_with_sequential_offload_no_layer_of_the_network_stays_in_memory(
    folders: Folders,  # noqa: F811
) -> None:
    model: Any = loading.load(
        str(folders("sd2")), "cpu", None, 32, memory=MemoryOptions(offload="sequential")
    )
    outputs(model)
    assert {weight.device.type for weight in model.network.parameters()} == {"meta"}


def test_sliced_images_have_the_bits_of_images_encoded_one_by_one(
    folders: Folders,  # noqa: F811
) -> None:
    folder = str(folders("sd2"))
    plain = loading.load(folder, "cpu", None, 32)
    sliced = loading.load(folder, "cpu", None, 32, memory=MemoryOptions(vae_slicing=True))
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    one_by_one = torch.cat([plain.encode_images(image[None]) for image in images])
    assert torch.equal(sliced.encode_images(images), one_by_one)
    torch.testing.assert_close(one_by_one, plain.encode_images(images), rtol=0, atol=1e-5)


def test_tiles_change_the_latents_of_images_larger_than_a_tile_alone(
    folders: Folders,  # noqa: F811
) -> None:
    folder = str(folders("sd2"))  # of tiles of 32 px
    plain = loading.load(folder, "cpu", None, 64)
    tiled: Any = loading.load(folder, "cpu", None, 64, memory=MemoryOptions(vae_tiling=True))
    generator = torch.Generator().manual_seed(0)
    for side, same in ((32, True), (64, False)):
        images = torch.rand(2, 3, side, side, generator=generator) * 2 - 1
        whole, by_tiles = plain.encode_images(images), tiled.encode_images(images)
        assert torch.equal(whole, by_tiles) == same
        assert tiled.autoencoder.is_tiled(side) == (not same)
        assert whole.shape == by_tiles.shape
