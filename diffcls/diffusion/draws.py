"""Draws: the (timestep, noise) pairs that classes are scored on, as common random numbers.

All classes of all images share the same draws (common random numbers), which reduces the variance
of differences between classes. A draw is a column of the error table. Its timestep follows a
low-discrepancy sequence (van der Corput), so every prefix covers time evenly; its noise depends on
the seed and the draw's number only, never on the order of computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffcls.support.errors import UsageError
from diffcls.support.seeding import key, keyed_generator
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


def rotation(templates: int, draws: int, seed: int) -> Int64:
    """(draws,) the template of each draw: every block of `templates` draws has each template once.

    The order within a block is a keyed random permutation. A fixed order would pair templates with
    timesteps, as the parity of a draw decides on which side of the middle its timestep lies.
    """
    blocks = -(-draws // templates)
    orders = [keyed_generator(seed, f"rotation {i}").permutation(templates) for i in range(blocks)]
    return np.concatenate(orders)[:draws].astype(np.int64)


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
