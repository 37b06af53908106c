"""State of one image being scored: its error table, and the requests that are pending."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffcls.data.prompts import PromptSet
from diffcls.search.base import Search
from diffcls.search.error_table import Table
from diffcls.search.screening import Screening
from diffcls.support.invariants import known
from diffcls.support.types import Float64, Int64

Pairs = Int64
"""(M, 2) prompt and draw of one image: a compact form of M requests."""
ClassPrior = Callable[[Callable[[], Any]], Float64]
"""A function that opens the image -> the prior of its classes, see `ImageState`."""

MapOf = Callable[[str, NDArray[np.float32]], Tensor]
"""(image id, pixels (3, H, W) in [−1, 1]) -> the encoded map of an image, for a ControlNet."""


@dataclass(frozen=True)
class ScoringTask:
    """Settings that all images of a run share.

    Args:
        prompts: the candidate classes.
        search: allocation of (class, draw) evaluations.
        aggregate: combines the draws, see `diffcls.search.aggregation`.
        prompts_race: whether rows of the table that the search sees are prompts, else classes.
        subtract_empty: whether the empty prompt's error is subtracted from all scores.
        keep_errors: whether the error table is returned with the scores.
        background: whether the last row of an image's table is a background prompt, which is
            scored beside the best candidate.
        turn: (N,) which of its prompts a class has on each draw, see `PromptSet.rotated`; None: all
            of them.
    """

    prompts: PromptSet
    search: Search
    aggregate: Callable[[Table], Table]
    prompts_race: bool
    subtract_empty: bool
    keep_errors: bool
    background: bool = False
    turn: Int64 | None = None

    def expand(self, rows: Int64, draws: Int64) -> Pairs:
        """(M', 2) the prompts of rows (M,) of the search's table, each on its draw (M,)."""
        if self.prompts_race:
            return np.stack([rows, draws], axis=1)
        if self.prompts.class_of == tuple(range(self.prompts.n_classes)):  # one prompt each
            return np.stack([rows, draws], axis=1)
        prompts = [self.prompts.rows_of(row) for row in rows.tolist()]
        if self.turn is not None:
            turns = self.turn[draws].tolist()
            chosen = [own[turn] for own, turn in zip(prompts, turns, strict=True)]
            return np.stack([np.array(chosen, dtype=np.int64), draws], axis=1)
        each = np.repeat(draws, [len(some) for some in prompts])
        flat = np.fromiter(chain.from_iterable(prompts), np.int64, len(each))
        return np.stack([flat, each], axis=1)


@dataclass
class ImageState:
    """State of one image; `diffcls.scoring.next_requests` derives its next requests from it.

    Args:
        image_id, candidates: id and candidate classes of the image.
        x0: (C, h, w) pixels or latent.
        shape: shape of its error table: (P, N), or (P + 1, N) if the last row is the empty
            prompt or a background prompt.
        task: settings of the run.
        screening: the screening of this image, if the search has a screen.
        prior: (K,) logarithm of each class's prior over the likelihood scale, in units of the
            error, which the search subtracts from the errors of all draws; None: a uniform prior.
        control: its encoded map, of a model with a ControlNet.
        seconds: its share of the time so far.
        evaluations: its cost so far.
        error: description of a failure, or None.
        pending: requests without a result.
        requested: (M, 2) last request of the search, rows of its table and draws; None before the
            first and after the last one.
        probe_results: result of each requested probe, None while it is pending.
        speculative: (prompt, draw) -> error of evaluations made before they were requested.
        counted: those of `speculative` whose cost is counted already, as that of probes.
    """

    image_id: str
    candidates: tuple[int, ...]
    x0: Tensor
    shape: tuple[int, int]
    task: ScoringTask
    screening: Screening | None = None
    prior: Float64 | None = None
    control: Tensor | None = None
    seconds: float = 0.0
    evaluations: int = 0
    error: str | None = None
    pending: int = 0
    requested: Int64 | None = None
    probe_results: list[NDArray[np.floating] | None] = field(default_factory=list)
    speculative: dict[tuple[int, int], float] = field(default_factory=dict)
    counted: set[tuple[int, int]] = field(default_factory=set)

    @property
    def table(self) -> Table:
        """Errors of the prompts, NaN where not evaluated; a copy if the search has a screen."""
        if self.screening is None:
            return self._kept
        whole = np.full(self.shape, np.nan, np.float32)
        if "_kept" in self.__dict__:
            whole[[*self._kept_row]] = self._kept
        return whole

    @cached_property
    def _kept(self) -> Table:
        """Rows of the table; allocated on first use, after the screening."""
        rows = self.shape[0] if self.screening is None else len(self._kept_row)
        return np.full((rows, self.shape[1]), np.nan, np.float32)

    @cached_property
    def _kept_row(self) -> dict[int, int]:
        """Prompt -> its row in `_kept`, for the prompts of the shortlist: a few of many."""
        shortlist = known(self.screening).shortlist.tolist()
        rows_of = self.task.prompts.rows_of
        prompts = [prompt for k in shortlist for prompt in rows_of(k)]
        # the empty prompt or a background prompt, if there is one
        prompts += range(len(self.task.prompts), self.shape[0])
        return {prompt: row for row, prompt in enumerate(prompts)}

    def record(self, prompt: int, draw: int, error: float) -> None:
        """Write the error of a requested evaluation into the table."""
        row = prompt if self.screening is None else self._kept_row[prompt]
        self._kept[row, draw] = error
        self.evaluations += 1

    def use_speculative(self, prompt: int, draw: int) -> bool:
        """Record a speculative result that is now requested; False if there is no finite one."""
        error = self.speculative.pop((prompt, draw), math.nan)
        if not math.isfinite(error):
            return False
        self.record(prompt, draw, error)
        if (prompt, draw) in self.counted:
            self.evaluations -= 1
        return True

    def keep_for_race(self, k: int, draw: int, error: float) -> None:
        """Keep the error at the embedding of a class of one prompt: it is its evaluation."""
        prompts = self.task.prompts.rows_of(k)
        if len(prompts) == 1:
            self.speculative[prompts[0], draw] = error
            self.counted.add((prompts[0], draw))

    def deliver_probes(self) -> None:
        """Pass the results of the last probes, if any, to the screening."""
        if self.probe_results:
            known(self.screening).receive([r for r in self.probe_results if r is not None])
            self.probe_results = []
