"""Draws: the (timestep, noise) pairs that classes are scored on, as common random numbers.

All classes of all images share the same draws (common random numbers), which reduces the variance
of differences between classes. A draw is a column of the error table. Its timestep follows a
low-discrepancy sequence (van der Corput), so every prefix covers time evenly; its noise depends on
the seed and the draw's number only, never on the order of computation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffcls.support.errors import UsageError
from diffcls.support.seeding import key
from diffcls.support.types import Int64

if TYPE_CHECKING:
    import torch


def nested_order(length: int, draws: int) -> Int64:
    """Low-discrepancy timesteps: (draws,) schedule indices, every prefix evenly spread over time.

        φ(Σ_k b_k·2^k) = Σ_k b_k·2^(−k−1),    index_j = ⌊T·φ(j)⌋,    j = 1, …, N

    φ is the van der Corput sequence in base 2: ½, ¼, ¾, ⅛, ⅝, … (van der Corput 1935; Niederreiter
    1992, section 3.1). The first 2^k − 1 draws are the multiples of 2^−k, symmetric about the
    middle, and fewer draws are always a prefix of more.

    Args:
        length: T, the length of the schedule.
        draws: N; for N > T, indices repeat, each time with noise of their own.

    Raises:
        UsageError: for a length or number of draws below 1.
    """
    if length < 1 or draws < 1:
        raise UsageError("draws out of range", given=draws, allowed="1 or more")
    bits = draws.bit_length()
    j = np.arange(1, draws + 1, dtype=np.int64)
    reversed_bits = np.zeros_like(j)
    for k in range(bits):
        reversed_bits |= ((j >> k) & 1) << (bits - 1 - k)
    indices: Int64 = reversed_bits * length >> bits
    return indices


def published_order(length: int, samples: Sequence[int]) -> tuple[Int64, Int64]:
    """Timesteps of the published stages (Li et al. 2023): schedule indices and stage ends.

    With N = samples[-1], the grid starts at T//N//2 and has step T//N; stage i takes the first n_i
    of every (N//n_i)-th entry from offset N//n_i//2, without those of earlier stages. Stages are
    not nested, so a stage adds up to n_i draws. If N does not divide T, the published grid ends
    before T; here it is spread evenly over [0, T) instead.

    Args:
        length: T, the length of the schedule.
        samples: (S,) number of samples n_i of each stage, not decreasing, the last at most T.

    Returns:
        indices (N',): schedule index of each draw, in order of evaluation; ends (S,): the number
        of draws a class has after each stage.

    Raises:
        UsageError: for a stage that is empty, smaller than the one before, or larger than T.
    """
    samples = [int(n) for n in samples]
    if not samples or samples[0] < 1 or sorted(samples) != samples or samples[-1] > length:
        raise UsageError(
            "samples per stage out of range",
            given=samples,
            allowed=f"one or more numbers from 1 to {length}, not decreasing",
        )
    total = samples[-1]
    # (i + ½)·T/N rounded down; if N divides T, this is T//N//2 + i·(T//N)
    grid = (2 * np.arange(total) + 1) * length // (2 * total)
    order: list[int] = []
    ends: list[int] = []
    for n in samples:
        step = total // n
        stage = range(step // 2, total, step)[:n]
        evaluated = set(order)
        order.extend(i for i in stage if i not in evaluated)
        ends.append(len(order))
    return grid[np.array(order)].astype(np.int64), np.array(ends, dtype=np.int64)


@dataclass(frozen=True)
class DrawPlan:
    """The draws of a run, which are the columns of the error table.

    Args:
        indices: (N,) schedule index of each draw.
        seed: seed of the noise.
        noise_path: file whose tensor (N', C, h, w) replaces the noise of draws 0…N'−1.
    """

    indices: Int64
    seed: int = 0
    noise_path: str | None = None

    def __len__(self) -> int:
        return len(self.indices)


def noise(seed: int, draw: int, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise of one draw: (C, h, w) float32 on the CPU.

    Every draw has its own generator, always on the CPU, so the noise depends only on seed, draw
    and shape.
    """
    import torch

    generator = torch.Generator("cpu").manual_seed(key("noise", seed, draw))
    # explicit device and dtype, because torch's defaults can be changed globally
    return torch.randn(tuple(shape), generator=generator, device="cpu", dtype=torch.float32)


class NoiseBank:
    """Cache of the draws' noise on the device, filled on demand.

    Args:
        plan: the draws, with their seed and optional noise file.
        shape: (C, h, w) of one draw.
        device: device of the tensors.
        max_bytes: bytes the cache may hold; the least recently used draw is dropped first, and
            recomputed bit for bit when it is needed again.
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

    Args:
        path: the file.
        shape: (C, h, w) of one draw.

    Raises:
        UsageError: for a file that is missing, contains anything but one tensor of that shape, or
            values that are not finite.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise UsageError(
            "--noise-path: noise file not found", given=str(path), todo="check the path"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: object = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(
            f"--noise-path: cannot read noise file ({type(error).__name__})",
            given=str(path),
            allowed="a .safetensors or a weights-only .pt file",
        ) from error
    if isinstance(loaded, dict) and len(loaded) == 1:
        loaded = next(iter(loaded.values()))
    expected = f"one tensor of shape (N, {', '.join(map(str, shape))})"
    fits = isinstance(loaded, torch.Tensor) and loaded.shape[1:] == tuple(shape) and len(loaded)
    if not isinstance(loaded, torch.Tensor) or not fits:
        given = tuple(loaded.shape) if isinstance(loaded, torch.Tensor) else type(loaded).__name__
        raise UsageError(
            "--noise-path: noise does not fit the model", given=given, allowed=expected
        )
    if not torch.isfinite(loaded).all():
        raise UsageError(
            "--noise-path: noise is not finite", given=str(path), allowed="finite values"
        )
    return loaded.detach().float()
