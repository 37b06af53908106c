"""Memory forecast of a model: what is on its device at which time, from the configs alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.models.activations import (
    autoencoder_bytes,
    encoding_bytes,
    network_bytes,
    text_bytes,
)
from diffcls.models.adapters import FAMILIES
from diffcls.models.memory_options import WHOLE_ON_DEVICE, MemoryOptions
from diffcls.models.part_sizes import PartSize, control_size, part_sizes
from diffcls.support.tables import align

if TYPE_CHECKING:
    import torch

    from diffcls.models.model_index import ModelIndex

IMAGES_PER_BATCH = 16
"""Images encoded together, see `diffcls.classifiers.diffusion.DiffusionMethod`."""
PROMPTS_PER_BATCH = 16
"""Prompts encoded together, see `diffcls.models.families.base`."""


@dataclass(frozen=True)
class Stage:
    """A time of a run.

    Args:
        name: what is done.
        weights: names of the parts whose weights are on the device.
        weight_bytes, activation_bytes: memory of weights, and of all else.
    """

    name: str
    weights: tuple[str, ...]
    weight_bytes: int
    activation_bytes: int

    @property
    def size(self) -> int:
        """Bytes on the device."""
        return self.weight_bytes + self.activation_bytes


@dataclass(frozen=True)
class Workload:
    """What a model is to do.

    Args:
        dtype: precision of all parts but the autoencoder.
        batch_size: rows of a forward pass.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        prompts: number of prompts, all of which stay encoded.
        img_size: side of the images in pixels; None: the model's own.
        options: how the model is held in memory.
        control: folder of the config of a ControlNet that steers it; None without one.
    """

    dtype: torch.dtype
    batch_size: int
    device: str = "cpu"
    prompts: int = 0
    img_size: int | None = None
    options: MemoryOptions = WHOLE_ON_DEVICE
    control: Path | None = None


@dataclass(frozen=True)
class Forecast:
    """Memory of a model.

    Args:
        index: index of the model.
        parts: its networks.
        stages: the times of a run, in order.
        workload: what it is to do.
        img_size: side of the images in pixels.
        copied: bytes of weights that are copied into another layout: the pages of their file stay
            until memory is short.
    """

    index: ModelIndex
    parts: tuple[PartSize, ...]
    stages: tuple[Stage, ...]
    workload: Workload
    img_size: int
    copied: int = 0

    @property
    def peak(self) -> Stage:
        """The stage that needs the most memory on the device."""
        return max(self.stages, key=lambda stage: stage.size)

    def resident(self, process: int) -> int:
        """Peak resident memory of a run on a CPU, weights that the system may drop included.

        Args:
            process: bytes of the process before the model is loaded, with its libraries.
        """
        return process + self.peak.size + self.copied

    @property
    def parameters(self) -> int:
        """Parameters of all parts."""
        return sum(part.parameters for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """The forecast in plain JSON types, sizes in bytes."""
        return {
            "parameters": self.parameters,
            "parts": [
                {
                    "part": part.name,
                    "class": part.class_name,
                    "parameters": part.parameters,
                    "dtype": part.dtype,
                    "bytes": part.size,
                }
                for part in self.parts
            ],
            "stages": [
                {
                    "stage": stage.name,
                    "on_device": list(stage.weights),
                    "weight_bytes": stage.weight_bytes,
                    "activation_bytes": stage.activation_bytes,
                }
                for stage in self.stages
            ],
            "peak_bytes": self.peak.size,
            "img_size": self.img_size,
            "batch_size": self.workload.batch_size,
        }

    def table(self) -> str:
        """The forecast as two plain tables: parts, and times of a run."""
        parts = [["part", "class", "parameters", "dtype", "memory"]]
        for part in self.parts:
            count = f"{part.parameters:,}"
            parts.append([part.name, part.class_name, count, part.dtype, readable(part.size)])
        total = readable(sum(part.size for part in self.parts))
        parts.append(["total", "", f"{self.parameters:,}", "", total])
        stages = [["time", "on the device", "weights", "activations", "sum"]]
        for stage in self.stages:
            sizes = (stage.weight_bytes, stage.activation_bytes, stage.size)
            stages.append([stage.name, " ".join(stage.weights), *map(readable, sizes)])
        return "\n\n".join(
            [
                align(parts, right={"parameters", "memory"}),
                align(stages, right={"weights", "activations", "sum"}),
            ]
        )


def readable(size: float) -> str:
    """Bytes in GB of 10⁹, or in MB below one."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def forecast(index: ModelIndex, workload: Workload) -> Forecast:
    """The memory that a pipeline needs, of which no weights are read.

    Args:
        index: index of the pipeline's folder, of which the configs suffice.
        workload: what the model is to do.

    Raises:
        ModelError: see `diffcls.models.part_sizes.part_sizes`.
    """
    parts = part_sizes(index, workload.dtype, workload.options.quantise)
    if workload.control is not None:
        parts = (*parts, control_size(workload.control, workload.dtype))
    latent, side = _sides(parts, workload.img_size)
    copied = 0
    if workload.device == "cpu" and FAMILIES.load(index.family).copies_convolutions_on_cpu:
        copied = sum(part.convolutions for part in parts if part.role == "network")
    stages = tuple(_stages(parts, workload, latent, side))
    return Forecast(index, parts, stages, workload, side, copied)


def _sides(parts: Sequence[PartSize], img_size: int | None) -> tuple[int, int]:
    """Side of the latents, and of the images in pixels."""
    factor = max([_factor(part) for part in parts if part.role == "autoencoder"], default=1)
    if img_size is None:
        network = next((part for part in parts if part.role == "network"), None)
        size = None if network is None else network.config.get("sample_size")
        size = size[0] if isinstance(size, list) and size else size
        img_size = (size if isinstance(size, int) else 128) * factor
    return max(1, img_size // factor), img_size


def _factor(part: PartSize) -> int:
    """Pixels per side of a latent value."""
    config = part.config
    channels = config.get("block_out_channels") or config.get("encoder_block_out_channels")
    if isinstance(channels, list):
        return int(2 ** (len(channels) - 1))
    stages = config.get("temperal_downsample")
    return int(2 ** len(stages)) if isinstance(stages, list) else 8


def _stages(parts: Sequence[PartSize], work: Workload, latent: int, side: int) -> list[Stage]:
    options, itemsize = work.options, work.dtype.itemsize
    by_role = {
        role: [part for part in parts if part.role == role]
        for role in ("text", "autoencoder", "network")
    }
    encoded = work.prompts * encoding_bytes(parts, itemsize)
    text = max([text_bytes(p, PROMPTS_PER_BATCH, itemsize) for p in by_role["text"]], default=0)
    rows = 1 if options.vae_slicing else IMAGES_PER_BATCH
    images = max(
        [
            autoencoder_bytes(part, side, rows, _tile(part) if options.vae_tiling else None)
            for part in by_role["autoencoder"]
        ],
        default=0,
    )
    tokens = sum(part.tokens for part in by_role["text"])
    pass_bytes = work.batch_size * sum(
        network_bytes(part, latent, tokens, itemsize) for part in by_role["network"]
    )
    stages = []
    for name, role, size in (
        ("encoding prompts", "text", text + encoded),
        ("encoding images", "autoencoder", images + encoded),
        (f"evaluating {work.batch_size} rows", "network", pass_bytes + encoded),
    ):
        if by_role[role]:
            resident = by_role[role] if options.offload != "none" else list(parts)
            stages.append(_stage(name, resident, options.offload, size))
    return stages


def _stage(name: str, parts: Sequence[PartSize], offload: str, size: int) -> Stage:
    if offload == "sequential" and parts[0].role != "autoencoder":
        weights = max(part.largest_layer for part in parts)
        return Stage(name, ("one layer",), weights, size)
    names = tuple(part.name for part in parts)
    return Stage(name, names, sum(part.size for part in parts), size)


def _tile(part: PartSize) -> int:
    """Side of the autoencoder's tiles in pixels."""
    size = part.config.get("sample_size")
    size = size[0] if isinstance(size, list) and size else size
    return size if isinstance(size, int) else 256
