"""Classifier guidance of an unconditional pixel model: share of samples of the target class."""

from __future__ import annotations

from typing import Any

from diffcls.data import catalog

WEIGHTS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Weights of the classifier's gradient."""
SAMPLES_PER_CLASS = 40


def measure(
    dataset: str, model: str, classifier: str, data_root: str | None, threads: int
) -> list[dict[str, Any]]:
    """One row per weight: the share of samples that the judge assigns to the target class.

    The judge is the data set's CLIP model, which is independent of the guidance.

    Args:
        dataset: name of the data set.
        model: the unconditional model, a name or folder.
        classifier: the classifier of noisy images, a name or folder.
        data_root: folder of local data sets.
        threads: CPU threads.
    """
    import numpy as np
    import torch

    from diffcls.generation.classes import classes_of
    from diffcls.generation.guides import Guide, build_guidance
    from diffcls.generation.sample import sample
    from diffcls.metrics.statistics import wilson_interval
    from diffcls.models import feature_extractors, loading
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(threads)
    denoiser = loading.load(model)
    classes = classes_of(denoiser, dataset, data_root)
    count = SAMPLES_PER_CLASS * len(classes.names)
    wanted = [i % len(classes.names) for i in range(count)]
    texts = [classes.texts[k] for k in wanted]
    name = catalog.find(dataset).clip
    judge = feature_extractors.load(name, classes.texts, range(len(classes.texts)), "cpu")
    rows = []
    for weight in WEIGHTS:
        guidance = None
        if weight:
            guide = Guide("classifier", weight, classifier)
            guidance = build_guidance(guide, denoiser, classes, wanted, texts)
        with denormals_flushed():
            batches = sample(
                denoiser, [""] * count, range(count), scale=1.0, steps=50, guidance=guidance
            )
            images = torch.cat([batch.images for batch in batches])
        _, logits = judge.extract(images)
        correct = int((logits.argmax(axis=1) == np.array(wanted)).sum())
        low, high = wilson_interval(correct, count)
        rows.append(
            {
                "model": denoiser.card.name,
                "judge": name,
                "weight": weight,
                "n": count,
                "share": correct / count,
                "ci_low": low,
                "ci_high": high,
                "by_chance": 1 / len(classes.names),
            }
        )
    return rows
