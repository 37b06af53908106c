"""Evidence for one class over another: where in the image, at which timesteps, by which words.

A score is minus a mean of squared errors over positions and draws, so a difference of two scores is
a sum over positions, or over draws, without any approximation:

    score_a − score_b = Σ_p m_p,    m_p = 1/(N·h·w) Σ_n [e_b(n, p) − e_a(n, p)]

with e_c(n, p) the error of class c at position p on draw n, averaged over channels. Both classes
are scored on the same draws (common random numbers). The standard error of a position is that of
the mean of N paired differences; the timesteps of draws are evenly spread instead of random, so
it is rather too large than too small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.explain.files import save
from diffcls.support.types import Float64


@dataclass(frozen=True)
class WordEvidence:
    """What a word of a prompt contributes to the score of its class.

    Args:
        word: the word.
        contribution: score of the prompt minus its score without the word, on the same draws; more
            than 0 if the word fits the image.
        stderr: its standard error.
    """

    word: str
    contribution: float
    stderr: float


@dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class Evidence:
    """Evidence in an image for class `label` over class `other`; positive values favour `label`.

    Args:
        label, other: names of the two classes.
        differences: (N, h, w) difference of each draw at each position of the latent, in units of
            the score; its mean over draws sums to `difference`.
        timesteps: (N,) timestep of each draw.
        scale: nats per unit of the score: the log odds of the two classes are `difference` times
            it.
        pixels: (H, W, 3) uint8, the image that the model saw: resized and cropped.
        words: by class name, the words of its first prompt in order; empty if no words were asked.
    """

    label: str
    other: str
    differences: Float64
    timesteps: Float64
    scale: float
    pixels: NDArray[np.uint8]
    words: dict[str, tuple[WordEvidence, ...]] = field(default_factory=dict)

    @property
    def difference(self) -> float:
        """Score of `label` minus that of `other`: the sum of `map`."""
        return float(self.differences.mean(axis=0).sum())

    @property
    def difference_stderr(self) -> float:
        """Standard error of `difference`."""
        return float(_stderr(self.per_timestep))

    @property
    def log_odds(self) -> float:
        """log p(label | x)/p(other | x), with equal priors and the model's temperature."""
        return self.scale * self.difference

    @property
    def per_timestep(self) -> Float64:
        """(N,) difference of the scores on each draw; its mean is `difference`."""
        summed: Float64 = self.differences.sum(axis=(1, 2))
        return summed

    @property
    def latent_map(self) -> Float64:
        """(h, w) mean difference at each position of the latent; the sum is `difference`."""
        mean: Float64 = self.differences.mean(axis=0)
        return mean

    @property
    def latent_stderr(self) -> Float64:
        """(h, w) standard error of `latent_map`."""
        return _stderr(self.differences)

    @property
    def map(self) -> Float64:
        """(H, W) `latent_map`, upsampled to the pixels; the sum is `difference`."""
        return upsample(self.latent_map[None], self.pixels.shape[:2])[0]

    @property
    def stderr(self) -> Float64:
        """(H, W) standard error of `map`, from the upsampled difference of each draw."""
        return _stderr(upsample(self.differences, self.pixels.shape[:2]))

    def save(self, path: str | Path) -> None:
        """Write the overlay as PNG, or the arrays as ``.npz``; by the file's ending.

        Raises:
            UsageError: for another ending, or a folder that cannot be written.
        """
        save(Path(path), self.arrays())

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Maps, standard errors, timesteps and the image, by name."""
        names = ("map", "stderr", "latent_map", "latent_stderr", "timesteps", "per_timestep")
        return {name: getattr(self, name) for name in (*names, "pixels")}

    def by_time(self, bins: int = 8) -> list[dict[str, float]]:
        """Contribution of each range of timesteps: ``[{"from", "to", "draws", "difference",
        "stderr"}, …]``.

        Args:
            bins: greatest number of ranges; each holds about as many draws as the others, and at
                least two, as one has no standard error. The differences sum to `difference`.
        """
        order = np.argsort(self.timesteps, kind="stable")
        n, rows = len(order), []
        for part in np.array_split(order, max(1, min(bins, n // 2))):
            values = self.per_timestep[part]
            rows.append(
                {
                    "from": float(self.timesteps[part[0]]),
                    "to": float(self.timesteps[part[-1]]),
                    "draws": len(part),
                    "difference": float(values.sum() / n),
                    "stderr": float(_stderr(values) * len(part) / n),
                }
            )
        return rows


def _stderr(values: Float64) -> Float64:
    """Standard error of the mean over the first axis: s/√N, with N − 1 degrees of freedom."""
    result: Float64 = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return result


def upsample(maps: Float64, size: tuple[int, int]) -> Float64:
    """(N, h, w) maps to (N, H, W), bilinear; every map keeps its sum.

    H and W are multiples of h and w. Bilinear interpolation to a multiple of the size gives every
    source position the same total weight, H/h·W/w.
    """
    import torch
    import torch.nn.functional as F

    h, w = maps.shape[1:]
    source = torch.from_numpy(np.ascontiguousarray(maps))[:, None]  # (N, 1, h, w)
    large = F.interpolate(source, size=size, mode="bilinear", align_corners=False)[:, 0]
    result: Float64 = large.numpy() * (h * w / (size[0] * size[1]))
    return result


def word_evidence(
    prompt: str, errors: Callable[[Sequence[str]], Float64]
) -> tuple[WordEvidence, ...]:
    """Leave-one-out over the words of a prompt.

        contribution of word i = 1/N Σ_n [e(prompt without word i, n) − e(prompt, n)]

    Args:
        prompt: the text; words are separated by white space.
        errors: (P,) texts -> (P, N) errors on the same draws.
    """
    words = prompt.split()
    without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
    table = errors([prompt, *without])
    paired = table[1:] - table[0]
    return tuple(
        WordEvidence(word, float(row.mean()), float(_stderr(row)))
        for word, row in zip(words, paired, strict=True)
    )
