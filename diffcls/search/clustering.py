"""Clustering of classes by their prompts' embeddings."""

from __future__ import annotations

import numpy as np

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.support.types import Float64

Group = tuple[int, ...]
Groups = tuple[Group, ...]

COLUMNS_PER_CHUNK = 256
"""Embedding columns per chunk; bounds peak memory."""


def class_distances(prompts: PromptSet, cond: Conditioning) -> Float64:
    """(K, K) Euclidean distances between class embeddings, each the mean over its prompts."""
    import torch

    from diffcls.search.embeddings import class_embeddings

    device = next(iter(cond.values())).device
    shape = (prompts.n_classes, prompts.n_classes)
    # ⟨a, b⟩, then in place ‖a − b‖² = ‖a‖² + ‖b‖² − 2⟨a, b⟩
    total = torch.zeros(shape, dtype=torch.float64, device=device)
    for part in class_embeddings(prompts, cond, COLUMNS_PER_CHUNK):
        centred = (part - part.mean(dim=0)).double()
        total.addmm_(centred, centred.T)
    length = total.diagonal().clone()
    total.mul_(-2).add_(length[:, None]).add_(length[None, :])
    # clamped: rounding may leave small negative values for equal embeddings
    distances: Float64 = total.clamp_(min=0).sqrt_().fill_diagonal_(0).cpu().numpy()
    return distances


def cluster(distances: Float64, count: int) -> Groups:
    """Clusters of least within-group variance (Ward 1963).

    Args:
        distances: (K, K) between the classes' embeddings.
        count: number of groups; fewer are returned if embeddings are equal.

    Returns:
        the classes of each group, in ascending order.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if count <= 1 or len(distances) == 1:
        return (tuple(range(len(distances))),)
    joins = linkage(squareform(distances, checks=False), "ward")
    group = fcluster(joins, count, "maxclust")
    return tuple(sorted(tuple(np.flatnonzero(group == g).tolist()) for g in np.unique(group)))
