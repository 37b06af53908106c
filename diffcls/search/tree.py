"""Tree screening: groups of similar classes compete, and only the best groups are split.

Classes are clustered by the distances of their prompts' embeddings (average linkage, Sokal and
Michener 1958), and the dendrogram is cut into branches. The error at a group's mean embedding
stands for its classes; the groups of a level race each other as classes do, and the survivors are
split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.clustering import Group, class_distances
from diffcls.search.error_table import counts, scores
from diffcls.search.racing import Racing
from diffcls.search.screening import Probe, ScreenedSearch, StartScreening, last_differences
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64


@dataclass(frozen=True)
class Tree(ScreenedSearch):
    """Races among groups, level by level, then a race among the classes that are left.

    `confidence` is that of the final race alone: a level keeps at most `beam` groups, and a group's
    mean may have a higher error than the best of its classes, so the right branch may be lost.

    Args:
        branches: groups that a group is split into, at least 2.
        level_draws: maximum draws per group on each level, at least 2; never more than `draws`.
        beam: maximum groups that a level keeps.
        level_confidence: confidence of the races among groups, see
            `diffcls.search.racing.Racing`; low, as more draws cost more than they decide.
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
        _ = self.screen  # raises for a level_confidence out of range

    @property
    def screen(self) -> TreeScreen:
        level_draws = min(self.level_draws, self.draws)
        level_race = Racing(level_draws, self.level_confidence, self.start, self.prior)
        return TreeScreen(self.candidates, self.branches, self.beam, self.draws, level_race)


@dataclass(frozen=True)
class TreeScreen:
    """Beam search in the tree of classes.

    Args:
        candidates: maximum length of the shortlist.
        branches, beam: see `Tree`.
        draws: N, number of draws to choose from.
        level_race: the race among the groups of a level; its draws are those of a level.
    """

    candidates: int
    branches: int
    beam: int
    draws: int
    level_race: Racing

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> StartScreening:
        splits = grow(class_distances(prompts, cond), self.branches)
        return lambda open_image: TreeScreening(self, prompts.n_classes, splits)

    def limits(self, classes: int) -> tuple[int, int]:
        if classes <= self.candidates:
            return 0, classes
        # the largest group of a level loses at least `branches` − 1 classes to its siblings
        levels = -(-(classes - 1) // (self.branches - 1))
        # a level's groups: those that it keeps, and those that it drops with at least a class each
        groups = classes - 1 + self.beam * levels
        return groups * self.level_race.draws, self.candidates


class TreeScreening:
    """Screening of one image, from the root down; each level uses draws of its own.

    Args:
        screen: the options.
        classes: K.
        splits: see `grow`.
    """

    def __init__(
        self, screen: TreeScreen, classes: int, splits: dict[Group, tuple[Group, ...]]
    ) -> None:
        self._screen, self._classes, self._splits = screen, classes, splits
        self.shortlist = np.arange(classes, dtype=np.int64)
        self._groups: tuple[Group, ...] = (tuple(range(classes)),)
        self._table = np.empty((0, 0), np.float32)
        self._first_draw = 0
        self._requested: Int64 | None = None
        self._rounds: list[Float64] = []
        self._advance()

    def request(self) -> list[Probe] | None:
        if self._requested is None:
            return None
        first = self._first_draw
        return [
            Probe(self._groups[g], (first + j) % self._screen.draws, gradient=False)
            for g, j in self._requested.tolist()
        ]

    def receive(self, results: Sequence[NDArray[np.floating]]) -> None:
        assert self._requested is not None
        groups, draws = self._requested.T
        self._table[groups, draws] = [float(value) for value in results]
        self._advance()

    def deficits(self, leader: int) -> Float64:
        return last_differences(self._rounds, self.shortlist, leader)

    def _advance(self) -> None:
        """Find the next request, over as many levels as need no further probe."""
        self._requested = None
        while self._is_running():
            if not self._table.size:
                self._split()
            self._requested = self._screen.level_race.ask(self._table)
            if self._requested is not None:
                return
            self._end_level()

    def _is_running(self) -> bool:
        """Whether the list is too long, and a level is unfinished or a group can be split."""
        splittable = bool(self._table.size) or any(g in self._splits for g in self._groups)
        return len(self.shortlist) > self._screen.candidates and splittable

    def _split(self) -> None:
        """Begin a level: split every group that is left; a single class stays as it is."""
        self._groups = tuple(part for g in self._groups for part in self._splits.get(g, (g,)))
        shape = (len(self._groups), self._screen.level_race.draws)
        self._table = np.full(shape, np.nan, np.float32)

    def _end_level(self) -> None:
        """End a level: keep the best of the groups that the race has not dropped."""
        group_scores = scores(self._table)
        best = self._screen.level_race.rank(self._table)
        done = counts(self._table)
        kept = [int(g) for g in best if done[g] == done.max()][: self._screen.beam]
        if all(len(self._groups[g]) == 1 for g in kept):  # no group is left to split
            kept = kept[: self._screen.candidates]
        errors = np.full(self._classes, np.nan)
        for g, members in enumerate(self._groups):
            errors[list(members)] = -group_scores[g]
        self._rounds.append(errors)
        self._first_draw += int(done.max())
        self._groups = tuple(self._groups[g] for g in sorted(kept))
        self.shortlist = np.sort(np.array([k for g in self._groups for k in g], dtype=np.int64))
        self._table = np.empty((0, 0), np.float32)


def grow(distances: Float64, branches: int) -> dict[Group, tuple[Group, ...]]:
    """Map each group of two or more classes to the groups that it splits into.

    Args:
        distances: (K, K) between the classes' embeddings.
        branches: groups per split, fewer for groups of fewer classes: the highest joins of the
            dendrogram are undone first.
    """
    from scipy.cluster.hierarchy import linkage, to_tree
    from scipy.spatial.distance import squareform

    if len(distances) < 2:
        return {}
    symmetric = (distances + distances.T) / 2
    np.fill_diagonal(symmetric, 0.0)
    root = to_tree(linkage(squareform(symmetric, checks=False), "average"))

    def members(node: object) -> Group:
        return tuple(sorted(node.pre_order()))  # type: ignore[attr-defined]

    splits: dict[Group, tuple[Group, ...]] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        parts = [node]
        while len(parts) < branches:
            joins = [part for part in parts if not part.is_leaf()]
            if not joins:
                break
            highest = max(joins, key=lambda join: (join.dist, -join.id))
            # compared by id: scipy takes two nodes of one height for equal
            parts = [part for part in parts if part.id != highest.id]
            parts += [highest.left, highest.right]
        splits[members(node)] = tuple(sorted(members(part) for part in parts))
        waiting += [part for part in parts if not part.is_leaf()]
    return splits
