"""Clustering of classes by their prompts' embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.support.types import Float64, Int64

Group = tuple[int, ...]
Groups = tuple[Group, ...]

COLUMNS_PER_CHUNK = 256
"""Embedding columns per chunk; bounds peak memory."""


class ClassDistances:
    """Euclidean distances between K class embeddings, from one triangle of their Gram matrix.

        ‖a − b‖² = ‖a‖² + ‖b‖² − 2⟨a, b⟩

    A triangle in double precision has half the size of the matrix of distances.

    Args:
        triangle: (K·(K + 1)/2,) inner products ⟨a_i, a_j⟩, i ≤ j, one row i after the other.
        count: K.
    """

    def __init__(self, triangle: Float64, count: int) -> None:
        self._triangle, self._count = triangle, count
        # inner product (i, j) is at start[i] + j
        row = np.arange(count)
        self._start = row * count - row * (row + 1) // 2
        self._squares = triangle[self._start + row]  # ‖a_i‖²

    @classmethod
    def from_gram(cls, gram: Float64) -> ClassDistances:
        """Distances from a (K, K) Gram matrix."""
        # row by row: indices of the triangle would need twice its memory
        return cls(np.concatenate([row[n:] for n, row in enumerate(gram)]), len(gram))

    def __len__(self) -> int:
        return self._count

    def between(self, rows: Sequence[int] | Int64, columns: Sequence[int] | Int64) -> Float64:
        """(R, C) distances of some classes to others."""
        i, j = np.asarray(rows, np.int64)[:, None], np.asarray(columns, np.int64)[None, :]
        squares = self._triangle[self._start[np.minimum(i, j)] + np.maximum(i, j)]
        squares *= -2
        squares += self._squares[i]
        squares += self._squares[j]
        # rounding may leave small values, below 0 too, for equal embeddings
        np.maximum(squares, 0.0, out=squares)
        squares[i == j] = 0.0
        return np.sqrt(squares, out=squares)

    def pairs_among(self, classes: Sequence[int] | Int64) -> Float64:
        """(S·(S − 1)/2,) distances of all pairs, in scipy's condensed form."""
        classes = np.asarray(classes, np.int64)
        rows = [self.between(classes[[n]], classes[n + 1 :])[0] for n in range(len(classes) - 1)]
        return np.concatenate([np.empty(0), *rows])


def class_distances(prompts: PromptSet, cond: Conditioning) -> ClassDistances:
    """Distances between the classes' embeddings, each the mean over its prompts."""
    import torch

    from diffcls.search.embeddings import class_embeddings

    device, count = next(iter(cond.values())).device, prompts.n_classes
    gram = torch.zeros(count, count, dtype=torch.float64, device=device)
    for part in class_embeddings(prompts, cond, COLUMNS_PER_CHUNK):
        centred = (part - part.mean(dim=0)).double()
        gram.addmm_(centred, centred.T)
    return ClassDistances.from_gram(gram.cpu().numpy())


def cluster(pairs: Float64, count: int) -> Groups:
    """Clusters of least within-group variance (Ward 1963).

    Args:
        pairs: (S·(S − 1)/2,) distances of all pairs of S points, in scipy's condensed form.
        count: number of groups; fewer are returned if points are equal.

    Returns:
        the points of each group, in ascending order.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import num_obs_y

    points = num_obs_y(pairs) if len(pairs) else 1
    if count <= 1 or points == 1:
        return (tuple(range(points)),)
    group = fcluster(linkage(pairs, "ward"), count, "maxclust")
    return tuple(sorted(tuple(np.flatnonzero(group == g).tolist()) for g in np.unique(group)))
