"""Memory options: how a model is held in memory, from the values of the flags."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from diffcls.support.errors import UsageError, unknown_name

OFFLOADS = ("none", "encoders", "sequential")
DEVICE_MAPS = ("balanced",)
QUANTISED_PARTS = ("text", "network", "all")
BITS = {"8bit": 8, "4bit": 4}
LIBRARIES = ("bitsandbytes", "torchao")


@dataclass(frozen=True)
class Quantisation:
    """Value of ``--quantize``: ``PARTS:BITS``, or ``PARTS:BITS:LIBRARY``.

    Args:
        parts: ``text`` for the text encoders, ``network`` for the denoiser, or ``all`` for both;
            the autoencoder is never quantised.
        bits: 8 or 4, of each weight of the linear layers.
        library: the library that stores and multiplies the quantised weights.
    """

    parts: str
    bits: int
    library: str = LIBRARIES[0]

    def includes(self, role: str) -> bool:
        """Whether the parts of a role, ``text`` or ``network``, are quantised."""
        return self.parts in (role, "all") and role in QUANTISED_PARTS

    def __str__(self) -> str:
        return f"{self.parts}:{self.bits}bit:{self.library}"


@dataclass(frozen=True)
class MemoryOptions:
    """How a model is held in memory; the defaults leave all of it on its device.

    Args:
        offload: ``none``; ``encoders``: of text encoders, autoencoder and network only those that
            compute are on the device; ``sequential``: of text encoders and network only the layer
            that computes.
        vae_slicing: images are encoded and decoded one by one.
        vae_tiling: images larger than the autoencoder's tiles are encoded tile by tile, which
            changes latents near the seams.
        compile: the network is compiled for static shapes, which may change last bits.
        quantise: quantisation of the weights; None: they stay as they are.
        device_map: ``balanced``: the layers of each part are spread over all GPUs.
    """

    offload: str = "none"
    vae_slicing: bool = False
    vae_tiling: bool = False
    compile: bool = False
    quantise: Quantisation | None = None
    device_map: str | None = None


WHOLE_ON_DEVICE = MemoryOptions()
"""The defaults."""


def parse_quantisation(text: str) -> Quantisation:
    """Read the value of ``--quantize``.

    Raises:
        UsageError: for anything but ``PARTS:BITS`` and ``PARTS:BITS:LIBRARY``.
    """
    words = text.split(":")
    parts, bits, library = (*words, LIBRARIES[0])[:3] if len(words) == 2 else (*words, "", "")[:3]
    known = parts in QUANTISED_PARTS and bits in BITS and library in LIBRARIES
    if not known or len(words) > 3:
        raise UsageError(
            "--quantize is not PARTS:BITS",
            given=text,
            allowed=f"{'|'.join(QUANTISED_PARTS)}:{'|'.join(BITS)}, "
            f"then perhaps :{'|'.join(LIBRARIES)}",
            todo="for instance --quantize text:8bit",
        )
    return Quantisation(parts, BITS[bits], library)


def check_memory_options(options: MemoryOptions) -> None:
    """Refuse values that exclude each other or lack their library; does not import torch.

    Raises:
        UsageError: for an unknown name, two flags that exclude each other, or a library that is
            not installed.
    """
    for flag, given, allowed in (
        ("--offload", options.offload, OFFLOADS),
        ("--device-map", options.device_map, DEVICE_MAPS),
    ):
        if given is not None and given not in allowed:
            raise unknown_name(flag, given, allowed)
    offloads = options.offload != "none"
    if offloads and options.device_map:
        raise _excluded("--offload", "--device-map")
    if options.compile and (options.offload == "sequential" or options.device_map):
        other = "--device-map" if options.device_map else "--offload sequential"
        raise _excluded("--compile", other, "layers that move between devices are not compiled")
    quantise = options.quantise
    if quantise is None:
        return
    if find_spec(quantise.library) is None:
        raise UsageError(
            f"--quantize needs the library {quantise.library}",
            given=str(quantise),
            todo=f"pip install {quantise.library}, or pip install 'diffcls[quantize]'",
        )
    if offloads or options.device_map:  # libraries of quantised weights place them themselves
        raise _excluded("--quantize", "--device-map" if options.device_map else "--offload")


def _excluded(flag: str, other: str, reason: str = "") -> UsageError:
    return UsageError(f"{flag} and {other} exclude each other", reason or None, todo="remove one")


def check_devices(options: MemoryOptions, device: str, gpus: int) -> None:
    """Refuse options that have no effect on a device.

    Args:
        options: the options.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``, as the model is placed.
        gpus: number of CUDA devices of this machine.

    Raises:
        UsageError: for an option of GPUs on a CPU, or for too few GPUs.
    """
    if options.device_map and (gpus < 2 or not device.startswith("cuda")):
        raise UsageError(
            "--device-map spreads a model over several GPUs of this machine",
            given=f"{gpus} GPUs, --device {device}",
            allowed="two GPUs or more",
            todo="remove it; --offload encoders or --quantize need less memory",
        )
    if options.offload != "none" and device == "cpu":
        raise UsageError(
            "--offload has no effect on a CPU, whose memory holds offloaded parts",
            given=options.offload,
            todo="remove it; --dtype bfloat16 and a smaller --batch-size need less memory",
        )


def given_flags(options: MemoryOptions) -> dict[str, object]:
    """The flags of all options that differ from their defaults, with their values."""
    flags = {
        "--offload": None if options.offload == "none" else options.offload,
        "--vae-slicing": options.vae_slicing or None,
        "--vae-tiling": options.vae_tiling or None,
        "--compile": options.compile or None,
        "--quantize": None if options.quantise is None else str(options.quantise),
        "--device-map": options.device_map,
    }
    return {flag: value for flag, value in flags.items() if value is not None}
