"""Principal components of class embeddings, also of classes that the fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.embeddings import class_embeddings
from diffcls.support.errors import UsageError
from diffcls.support.invariants import known
from diffcls.support.types import Float64

MAX_COMPONENTS = 64
"""More do not help the classes of a fit, and mislead it on others, whose small ones are large."""
COLUMNS_PER_CHUNK = 256
"""Embedding columns per chunk; bounds peak memory."""
LEAST_VARIANCE = 1e-9
"""Variance of a component that is kept, relative to the first one."""


def class_components(fitted: Sequence[tuple[PromptSet, Conditioning]]) -> NDArray[np.float32]:
    """(K, C) components of classes, of unit variance over the classes of the fit.

    Args:
        fitted: the K' classes of the fit with their encoding; then, if they are others, the K
            classes that are wanted.

    Raises:
        UsageError: if the encodings of the two have other shapes.
    """
    products = _products(fitted)
    count = fitted[0][0].n_classes
    # the components are v = Xᵀu/√λ with X·Xᵀ·u = λ·u, X (K', D) the centred embeddings of the fit
    values, vectors = np.linalg.eigh(products[:count])
    keep = np.flatnonzero(values > LEAST_VARIANCE * values[-1])[::-1][:MAX_COMPONENTS]
    wanted = products if len(fitted) == 1 else products[count:]
    # x·v in units of its standard deviation √(λ/K')
    components: NDArray[np.float32] = (
        wanted @ (vectors[:, keep] * (np.sqrt(count) / values[keep]))
    ).astype(np.float32)
    return components


def _products(fitted: Sequence[tuple[PromptSet, Conditioning]]) -> Float64:
    """(K' [+ K], K') inner products with the embeddings of the fit, around their mean."""
    chunks = [class_embeddings(prompts, cond, COLUMNS_PER_CHUNK) for prompts, cond in fitted]
    total: Float64 | None = None
    try:
        for parts in zip(*chunks, strict=True):
            mean = parts[0].mean(dim=0)
            centred = torch.cat([part - mean for part in parts]).double()
            product = (centred @ centred[: len(parts[0])].T).cpu().numpy()
            total = product if total is None else total + product
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            "the fit of --search learned does not fit these prompts",
            given=f"encodings of different shapes ({error})",
            todo="remove --fit",
        ) from error
    return known(total)
