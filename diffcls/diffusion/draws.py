"""Which (timestep, noise) pairs a class is scored on: the same for every class of every image.

A draw is a column of the error table. Its timestep comes from an order in which every prefix is
spread evenly over time; its noise from the seed and the draw's number alone, never from the order
in which anything is computed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffcls.support.errors import UsageError
from diffcls.support.types import Int64

if TYPE_CHECKING:
    import torch


def key(*parts: object) -> int:
    """A seed in [0, 2⁶³) from any parts: the first 63 bits of their SHA-256."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def nested_order(length: int, draws: int) -> Int64:
    """(draws,) schedule indices in [0, length), any prefix of which is spread evenly over time.

    The van der Corput sequence in base 2: ½, ¼, ¾, ⅛, ⅝, … of the schedule (van der Corput 1935;
    Niederreiter 1992, section 3.1). The first 2^k − 1 draws are the multiples of 2^−k, so they lie
    evenly about the middle; and fewer draws are always a prefix of more.

    Args:
        length: T, the length of the schedule.
        draws: N; where N > T, indices repeat, each time with noise of their own.
    """
    if length < 1 or draws < 1:
        raise UsageError("draws out of range", given=draws, allowed="at least 1")
    bits = draws.bit_length()
    j = np.arange(1, draws + 1, dtype=np.int64)
    reversed_bits = np.zeros_like(j)
    for k in range(bits):
        reversed_bits |= ((j >> k) & 1) << (bits - 1 - k)
    indices: Int64 = reversed_bits * length >> bits
    return indices


def published_order(length: int, samples: Sequence[int]) -> tuple[Int64, Int64]:
    """The published stages: which schedule index each draw has, and where each stage ends.

    With N = samples[-1], the grid starts at T//N//2 and steps by T//N; stage i takes every
    (N//n_i)-th entry from offset N//n_i//2, the first n_i of these, less those that an earlier
    stage evaluated. Stages are not nested, so a stage adds up to n_i draws. Where N does not
    divide T the published grid stops short of T; here it is spread evenly over [0, T) instead.

    Args:
        length: T, the length of the schedule.
        samples: (S,) number of samples n_i of each stage, not falling, the last at most T.

    Returns:
        indices (N',): schedule index of each draw, in order of evaluation; ends (S,): the number
        of draws a class has after each stage.

    Raises:
        UsageError: when a stage is empty, shrinks, or asks for more than T samples.
    """
    samples = [int(n) for n in samples]
    if not samples or samples[0] < 1 or sorted(samples) != samples or samples[-1] > length:
        raise UsageError(
            "samples per stage out of range",
            given=samples,
            allowed=f"one or more numbers, not falling, from 1 to {length}",
        )
    total = samples[-1]
    # (i + ½)·T/N rounded down: where N divides T, T//N//2 + i·(T//N)
    grid = (2 * np.arange(total) + 1) * length // (2 * total)
    order: list[int] = []
    ends: list[int] = []
    for n in samples:
        step = total // n
        stage = range(step // 2, total, step)[:n]
        seen = set(order)
        order.extend(i for i in stage if i not in seen)
        ends.append(len(order))
    return grid[np.array(order)].astype(np.int64), np.array(ends, dtype=np.int64)


@dataclass(frozen=True)
class DrawPlan:
    """The columns of the error table.

    Args:
        indices: (N,) index into the schedule of each draw.
        seed: keys the noise.
        noise_path: a file whose tensor (N', C, h, w) replaces the noise of draws 0…N'−1.
    """

    indices: Int64
    seed: int = 0
    noise_path: str | None = None

    def __len__(self) -> int:
        return len(self.indices)


def noise(seed: int, draw: int, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise of one draw: (C, h, w) float32 on the CPU.

    One generator a draw, on the CPU whatever the device: so it depends on seed, draw and shape
    alone.
    """
    import torch

    generator = torch.Generator("cpu").manual_seed(key("noise", seed, draw))
    # device and dtype are named: torch's own defaults are anyone's to change
    return torch.randn(tuple(shape), generator=generator, device="cpu", dtype=torch.float32)


class NoiseBank:
    """The noise of a plan's draws, made when first asked for and kept on the device.

    Args:
        plan: seed and, where given, the file.
        shape: (C, h, w) of one draw.
        device: where the tensors live.
        max_bytes: memory it may hold; the draw unused for longest goes first and is made again
            when needed, equal to the bit.
    """

    def __init__(
        self,
        plan: DrawPlan,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        max_bytes: int = 512 << 20,
    ) -> None:
        self.plan = plan
        self.shape = tuple(shape)
        self.device = device
        size = 4 * int(np.prod(self.shape))
        self._room = max(1, max_bytes // size)
        self._held: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._given = load_noise(plan.noise_path, self.shape) if plan.noise_path else None

    def __getitem__(self, draw: int) -> torch.Tensor:
        """(C, h, w) float32 noise of `draw`, on the device."""
        held = self._held.get(draw)
        if held is None:
            if self._given is not None and draw < len(self._given):
                made = self._given[draw]
            else:
                made = noise(self.plan.seed, draw, self.shape)
            held = self._held[draw] = made.to(self.device)
            if len(self._held) > self._room:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(draw)
        return held


def load_noise(path: str | Path, shape: Sequence[int]) -> torch.Tensor:
    """(N, C, h, w) float32 noise from a ``.safetensors`` or a weights-only ``.pt`` file.

    Raises:
        UsageError: when the file is missing, holds anything but one tensor of that shape, or
            holds values that are not finite.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise UsageError("noise file not found", given=str(path), todo="check --noise-path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: object = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(
            f"cannot read noise file ({type(error).__name__})",
            given=str(path),
            allowed="a .safetensors or a weights-only .pt file",
        ) from error
    if isinstance(loaded, dict) and len(loaded) == 1:
        loaded = next(iter(loaded.values()))
    wanted = f"one tensor of shape (N, {', '.join(map(str, shape))})"
    fits = isinstance(loaded, torch.Tensor) and loaded.shape[1:] == tuple(shape) and len(loaded)
    if not isinstance(loaded, torch.Tensor) or not fits:
        given = tuple(loaded.shape) if isinstance(loaded, torch.Tensor) else type(loaded).__name__
        raise UsageError("noise does not fit the model", given=given, allowed=wanted)
    if not torch.isfinite(loaded).all():
        raise UsageError("noise is not finite", given=str(path), allowed="finite values")
    return loaded.detach().float()
