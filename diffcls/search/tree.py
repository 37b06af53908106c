"""From groups of classes to classes: a branch goes where its mean prompt explains the noise badly.

Classes are joined by the distances of their prompts' embeddings (average linkage, Sokal and
Michener 1958), and the joins are cut into branches. The error at a group's mean embedding stands
for its classes; groups race each other as classes do, and those that are left are opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.clustering import Group, distances
from diffcls.search.error_table import counts, scores
from diffcls.search.racing import Racing
from diffcls.search.screening import Begin, Look, Narrowing, Screened, last_differences
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64


@dataclass(frozen=True)
class Tree(Screened):
    """A race among groups, level by level, then one among the classes that are left.

    `confidence` is that of the last race alone: a level is cut short by `beam`, and a group's mean
    may do worse than the best of its classes, so the right branch may be lost beside it.

    Args:
        branches: groups that a group is opened into, at least 2.
        level_draws: draws of a group at most, on each level, at least 2; no more than `draws` are
            made.
        beam: groups that a level leaves at most.
        level_confidence: of the races among groups, whose few draws leave more in doubt than more
            of them would be worth; see `diffcls.search.racing.Racing`.
    """

    branches: int = 6
    level_draws: int = 4
    beam: int = 3
    level_confidence: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("branches", 2), ("level_draws", 2), ("beam", 1)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"{name} out of range", given=getattr(self, name), allowed=f"{least} or more"
                )
        _ = self.level_race  # refuses a confidence out of range

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> Begin:
        opened = grow(distances(prompts, cond), self.branches)
        return lambda open_image: Descent(self, prompts.n_classes, opened)

    def most_before(self, classes: int) -> tuple[int, int]:
        if classes <= self.candidates:
            return 0, classes
        # the largest group of a level loses `branches` - 1 classes at least to its neighbours
        levels = -(-(classes - 1) // (self.branches - 1))
        # a level's groups are those that it leaves, and those that it drops with a class each
        groups = classes - 1 + self.beam * levels
        return groups * self.draws_a_level, self.candidates

    @property
    def draws_a_level(self) -> int:
        """Different draws that a level makes of a group at most."""
        return min(self.level_draws, self.draws)

    @property
    def level_race(self) -> Racing:
        """The race among the groups of a level."""
        return Racing(self.draws_a_level, self.level_confidence, self.start, self.prior)


class Descent(Narrowing):
    """One image's way down; each level goes on to draws that no earlier one has seen."""

    def __init__(self, options: Tree, classes: int, opened: dict[Group, tuple[Group, ...]]) -> None:
        self.options, self._opened = options, opened
        self._race = options.level_race
        self._classes = classes
        self.alive = np.arange(classes, dtype=np.int64)
        self._groups: tuple[Group, ...] = (tuple(range(classes)),)
        self._table = np.empty((0, 0), np.float32)
        self._first_draw = 0
        self._wanted: Int64 | None = None
        self._seen: list[Float64] = []

    def ask(self) -> list[Look] | None:
        while len(self.alive) > self.options.candidates and self._opens():
            if not self._table.size:
                self._descend()
            self._wanted = self._race.ask(self._table)
            if self._wanted is not None:
                first = self._first_draw
                return [
                    Look(self._groups[g], (first + j) % self.options.draws, slopes=False)
                    for g, j in self._wanted.tolist()
                ]
            self._leave()
        return None

    def tell(self, shown: Sequence[NDArray[np.floating]]) -> None:
        assert self._wanted is not None
        self._table[self._wanted[:, 0], self._wanted[:, 1]] = [float(value) for value in shown]

    def behind(self, leader: int) -> Float64:
        return last_differences(self._seen, self.alive, leader)

    def _opens(self) -> bool:
        """Whether a race among groups is on, or there is a group to open."""
        return bool(self._table.size) or any(g in self._opened for g in self._groups)

    def _descend(self) -> None:
        """Open every group that is left; a single class stays as it is."""
        self._groups = tuple(part for g in self._groups for part in self._opened.get(g, (g,)))
        shape = (len(self._groups), self.options.draws_a_level)
        self._table = np.full(shape, np.nan, np.float32)

    def _leave(self) -> None:
        """End a level: the best groups of those that were not dropped are left."""
        of_group = scores(self._table)
        best = self._race.rank(self._table)
        done = counts(self._table)
        kept = [int(g) for g in best if done[g] == done.max()][: self.options.beam]
        if all(len(self._groups[g]) == 1 for g in kept):  # nothing is left to open
            kept = kept[: self.options.candidates]
        errors = np.full(self._classes, np.nan)
        for g, members in enumerate(self._groups):
            errors[list(members)] = -of_group[g]
        self._seen.append(errors)
        self._first_draw += int(done.max())
        self._groups = tuple(self._groups[g] for g in sorted(kept))
        self.alive = np.sort(np.array([k for g in self._groups for k in g], dtype=np.int64))
        self._table = np.empty((0, 0), np.float32)


def grow(apart: Float64, branches: int) -> dict[Group, tuple[Group, ...]]:
    """Each group of two or more classes -> the groups that it is opened into.

    Args:
        apart: (K, K) distances.
        branches: groups, or as many as there are classes: the joins highest up are undone until
            there are as many.
    """
    from scipy.cluster.hierarchy import linkage, to_tree
    from scipy.spatial.distance import squareform

    if len(apart) < 2:
        return {}
    symmetric = (apart + apart.T) / 2
    np.fill_diagonal(symmetric, 0.0)
    root = to_tree(linkage(squareform(symmetric, checks=False), "average"))

    def members(node: object) -> Group:
        return tuple(sorted(node.pre_order()))  # type: ignore[attr-defined]

    opened: dict[Group, tuple[Group, ...]] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        parts = [node]
        while len(parts) < branches:
            joins = [part for part in parts if not part.is_leaf()]
            if not joins:
                break
            highest = max(joins, key=lambda join: (join.dist, -join.id))
            # nodes are told apart by their ids: to scipy, two of one height are equal
            parts = [part for part in parts if part.id != highest.id]
            parts += [highest.left, highest.right]
        opened[members(node)] = tuple(sorted(members(part) for part in parts))
        waiting += [part for part in parts if not part.is_leaf()]
    return opened
