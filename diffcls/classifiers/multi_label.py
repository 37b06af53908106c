"""Several labels per image: each label is decided by itself, against a background prompt.

    ℓ_k(x) = λ·(s_k − s_0),      label k is assigned where ℓ_k(x) ≥ τ

With exact likelihoods ℓ_k = log p(x|k)/p(x|∅), the log-likelihood ratio of the label's prompt and
the background, which is the most powerful test between these two (Neyman and Pearson 1933). Labels
do not compete, so none, one or several may be assigned. Both errors are measured on the same N
draws, whose common noise cancels in the difference; no label is eliminated, as each needs its own
decision. s_0 is the empty prompt's score, or that of the label's own negation, such as "a photo
without a {}". The threshold τ is fitted on validation images, see
`diffcls.metrics.multi_label.fit_threshold`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.prompts import PromptSet
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.types import Float64


def label_prompts(
    labels: Sequence[str], templates: Sequence[str], background: str, own: bool = True
) -> PromptSet:
    """The prompts of L labels; of 2·L classes, the latter half negations, for a background with {}.

    Args:
        labels: (L,) labels.
        templates: templates of the labels.
        background: the background prompt; with ``{}``, the template of negations.
        own: see `PromptSet`.
    """
    prompts = PromptSet.from_templates(labels, templates, own=own)
    if "{}" not in background:
        return prompts
    negations = PromptSet.from_templates(labels, [background], own=own)
    return PromptSet(
        (*labels, *(f"not {label}" for label in labels)),
        prompts.prompts + negations.prompts,
        prompts.class_of + tuple(len(labels) + k for k in negations.class_of),
        own=own,
    )


def label_log_odds(method: DiffusionMethod, results: Iterable[ClassScores]) -> Float64:
    """(n, L) log-likelihood ratio of each label against its background.

    Args:
        method: an exhaustive classifier of `label_prompts`, with a background prompt unless the
            labels have negations.
        results: the scores of n images, none of which failed.
    """
    rows = []
    for result in results:
        if result.background is not None:
            rows.append(result.scores - result.background)
        else:
            labels, negations = np.split(result.scores, 2)
            rows.append(labels - negations)
    return np.asarray(method.likelihood_scale * np.stack(rows), dtype=np.float64)
