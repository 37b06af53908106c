"""Classes whose prompts' embeddings lie together."""

from __future__ import annotations

import numpy as np

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.support.types import Float64

Group = tuple[int, ...]
Groups = tuple[Group, ...]

COLUMNS = 256
"""Of the embeddings, that are seen to at a time: what is copied stays small beside the prompts."""


def distances(prompts: PromptSet, cond: Conditioning) -> Float64:
    """(K, K) Euclidean distances of the classes' embeddings, each the mean over its prompts."""
    import torch

    from diffcls.search.embeddings import class_embeddings

    device = next(iter(cond.values())).device
    shape = (prompts.n_classes, prompts.n_classes)
    # ⟨a, b⟩, then in its place ‖a − b‖² = ‖a‖² + ‖b‖² − 2⟨a, b⟩
    total = torch.zeros(shape, dtype=torch.float64, device=device)
    for part in class_embeddings(prompts, cond, COLUMNS):
        centred = (part - part.mean(dim=0)).double()
        total.addmm_(centred, centred.T)
    length = total.diagonal().clone()
    total.mul_(-2).add_(length[:, None]).add_(length[None, :])
    # of equal ones a few roundings are left
    found: Float64 = total.clamp_(min=0).sqrt_().fill_diagonal_(0).cpu().numpy()
    return found


def parted(apart: Float64, count: int) -> Groups:
    """Classes in groups of small spread (Ward 1963).

    Args:
        apart: (K, K) distances.
        count: of the groups; fewer where classes are equal.

    Returns:
        the groups' classes, in order.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if count <= 1 or len(apart) == 1:
        return (tuple(range(len(apart))),)
    joins = linkage(squareform(apart, checks=False), "ward")
    group = fcluster(joins, count, "maxclust")
    return tuple(sorted(tuple(np.flatnonzero(group == g).tolist()) for g in np.unique(group)))
