"""Evaluation with ``--multi-label``: average precision and F1 of labels decided by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffcls.classifiers import METHODS
from diffcls.classifiers.model_memory import changes_of_numbers
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.data.read_timeout import with_read_timeout
from diffcls.data.scenes.objects import object_labels
from diffcls.data.subsets import choose
from diffcls.metrics.multi_label import f1_per_label, fit_threshold, mean_average_precision
from diffcls.runs.metrics_table import put
from diffcls.runs.spec import SCORING_VERSION
from diffcls.support.cache import Arrays, fitted
from diffcls.support.environment import (
    clock,
    commit,
    denormals_flushed,
    describe_device,
    set_threads,
    versions,
)
from diffcls.support.errors import DataError, UsageError
from diffcls.support.hashing import hash_json
from diffcls.support.seeding import keyed_generator
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from diffcls.classifiers.base import Built
    from diffcls.evaluation.options import EvaluationOptions

TABLE = "multi_label.csv"
DRAWS = 20
"""Default draws per label: every label is evaluated on all of them."""
VALIDATION_IMAGES = 100
RESAMPLES = 1000
UNUSED = (
    *("confidence", "max_evaluations", "candidates", "stages", "n_samples", "to_keep", "n_trials"),
    *("shard", "n_workers", "budget", "save_errors", "prompts", "ensemble", "class_ids"),
    *(
        "concept",
        "control",
        "control_model",
        "noise_path",
        "reject",
        "class_bias",
        "combine",
        "dry_run",
        "published",
    ),
)
"""Options of a search, of shards or of error tables, which these evaluations do not have."""


@dataclass(frozen=True)
class LabelScores:
    """Scores of a split.

    Args:
        labels: (L,) labels.
        present: (n, L) whether an image shows a label.
        log_odds: (n, L) see `diffcls.classifiers.multi_label`.
        evaluations: forward passes per image.
    """

    labels: tuple[str, ...]
    present: NDArray[np.bool_]
    log_odds: Float64
    evaluations: float


def check(options: EvaluationOptions) -> None:
    """Refuse what an evaluation of several labels does not read.

    Raises:
        UsageError: for the first such option, or the validation split.
    """
    for name in UNUSED:
        if getattr(options, name) not in (None, False):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} has no effect with --multi-label", todo="remove it")
    if options.vote != "mean" or options.aggregate != "classes":
        raise UsageError(
            "--multi-label compares mean errors, averaged over the prompts of a label",
            given=f"--vote {options.vote} --aggregate {options.aggregate}",
            todo="remove --vote and --aggregate",
        )
    if tuple(options.method) != ("diffusion",):
        raise UsageError(
            "--multi-label is of --method diffusion alone", given=" ".join(options.method)
        )
    if options.search not in (None, "exhaustive"):
        raise UsageError(
            "--multi-label decides each label by itself, so none is eliminated",
            given=f"--search {options.search}",
            todo="remove --search; --draws sets the cost",
        )
    if options.split == "validation":
        raise UsageError(
            "--multi-label fits its threshold on the validation images",
            given="--split validation",
            todo="evaluate another split",
        )


def prepare(options: EvaluationOptions) -> tuple[EvaluationOptions, Dataset, str]:
    """The options with their defaults, the images and their subset; no model is loaded.

    Raises:
        UsageError: see `check`; also for a data set of one label per image, and for a model without
            a card that can be read before it is loaded.
    """
    check(options)
    options = replace(options, search="exhaustive", draws=options.draws or DRAWS)
    whole = load_dataset(options.dataset, options.split, options.data_root)
    test, subset = choose(whole, options.limit, options.subset, options.indices)
    test = with_read_timeout(test, options.read_timeout)
    object_labels(test)
    definition(options, test, subset)
    return options, test, subset


def evaluate_multi_label(options: EvaluationOptions) -> list[dict[str, Any]]:
    """Score the labels of each image, and put the figures into the folder's ``multi_label.csv``.

    Scores are kept in the folder under all that defines them, so a repeated call only reads them.

    Args:
        options: options of the evaluation.

    Returns:
        The rows of the table.

    Raises:
        UsageError: for an option that is not read, or a data set of one label per image.
    """
    from diffcls.models import devices

    options, test, subset = prepare(options)
    whole = load_dataset(options.dataset, "validation", options.data_root)
    validation, validation_subset = choose(whole, min(VALIDATION_IMAGES, len(whole)))
    with denormals_flushed():
        set_threads(options.threads)
        fitted_on = label_scores(options, validation, validation_subset)
        scores = label_scores(options, test, subset)
    spec = definition(options, test, subset) | {"fitted on": [validation_subset]}
    common = {
        "fingerprint": hash_json(spec),
        "dataset": test.name,
        "split": test.split,
        "method": "diffusion",
        "model": spec["model"],
        "background_prompt": options.background_prompt,
        "evaluations_per_image": scores.evaluations,
        "n_labels": len(scores.labels),
        "seed": options.seed,
        "device": describe_device(devices.resolve_device(options.device)),
        "versions": versions(),
        "commit": commit(),
        "command": options.command,
        "date": clock(),
    }
    statistic = "odds against the background"
    threshold = fit_threshold(fitted_on.present, fitted_on.log_odds)
    found = figures(statistic, scores.labels, scores.present, scores.log_odds, threshold)
    rows = [{**common, **row} for row in found]
    put(Path(options.output_dir) / TABLE, rows)
    return rows


def figures(
    statistic: str,
    labels: Sequence[str],
    present: NDArray[np.bool_],
    scores: Float64,
    threshold: float,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Mean average precision, mean F1 and F1 of each label, the means with bootstrap intervals.

    Args:
        statistic: name of the scores.
        labels: (L,) labels.
        present: (n, L) whether an image shows a label.
        scores: (n, L).
        threshold: fitted on validation images.
        seed: seed of the resampling of images.
    """
    rng = keyed_generator(seed, "bootstrap of labels")
    resamples = [rng.integers(0, len(scores), len(scores)) for _ in range(RESAMPLES)]
    rows = []
    for metric, figure in (
        ("mAP", mean_average_precision),
        ("mean F1", lambda p, s: float(f1_per_label(p, s, threshold).mean())),
    ):
        values = [figure(present[i], scores[i]) for i in resamples]
        low, high = np.quantile(values, [0.025, 0.975])
        row = {"metric": metric, "value": figure(present, scores), "ci_low": low, "ci_high": high}
        rows.append({**row, "label": "", "n": len(scores), "statistic": statistic})
    each = f1_per_label(present, scores, threshold)
    rows += [
        {"metric": "F1", "label": label, "value": f1, "n": len(scores), "statistic": statistic}
        for label, f1 in zip(labels, each.tolist(), strict=True)
    ]
    return rows


def definition(options: EvaluationOptions, data: Dataset, subset: str) -> dict[str, Any]:
    """What defines the scores of a split, in plain JSON types, without loading a model."""
    from diffcls.classifiers import model_options
    from diffcls.models import given
    from diffcls.models.model_argument import shown

    spec = catalog.find(options.dataset)
    model = model_options.model_of(options, spec)
    card = given.card_of_text_model(model, options.lora, options.variant)
    if card is None:
        raise UsageError(
            "--multi-label needs a text-to-image model in a folder, or a name", given=shown(model)
        )
    return {
        "dataset": [data.name, data.revision, data.split, subset],
        "model": card.name,
        "revision": [card.revision, card.temperature],
        "templates": list(options.template or ["{}"]),
        "background": options.background_prompt or "",
        "draws": options.draws,
        "errors": [options.loss, options.weighting, options.allocation or card.allocation],
        "seed": options.seed,
        "images": [options.img_size, options.interpolation, _precision(options)],
        **({"text_defaults": added} if (added := given.text_defaults_of(model)) else {}),
        **changes_of_numbers(options),
        "scoring_version": SCORING_VERSION,
    }


def _precision(options: EvaluationOptions) -> str:
    """The precision given; that of ``auto`` on an accelerator, which is not a CPU's, names it."""
    from diffcls.models import devices

    if options.dtype != "auto" or devices.dtype_without_torch("auto", options.device):
        return options.dtype
    kind = devices.resolve_device(options.device).partition(":")[0]
    return "auto" if kind == "cpu" else f"auto on {kind}"


def label_scores(options: EvaluationOptions, data: Dataset, subset: str) -> LabelScores:
    """The scores of a split, from the cache if they are there.

    Raises:
        DataError: for an image that cannot be scored.
    """
    labels, present = object_labels(data)

    def measure() -> Arrays:
        from diffcls.classifiers.multi_label import label_log_odds, label_prompts

        prompts = label_prompts(
            labels, options.template or ("{}",), options.background_prompt or "", own=False
        )
        built: Built = METHODS.load("diffusion").build(
            options, catalog.find(options.dataset), prompts
        )
        method: Any = built.method
        by_id = {result.image_id: result for result in method.classify(data.items)}
        results = [by_id[item.image_id] for item in data.items]
        for result in results:
            if result.error is not None:
                raise DataError(f"{result.image_id} cannot be scored: {result.error}")
        counts = np.array([result.evaluations for result in results])
        return {"log_odds": label_log_odds(method, results), "evaluations": counts}

    stored = fitted(options.output_dir, "multi-label", definition(options, data, subset), measure)
    return LabelScores(labels, present, stored["log_odds"], float(stored["evaluations"].mean()))


def describe(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines for the terminal: the means with their intervals."""
    return [
        f"{row['dataset']}: {row['metric']} {row['value']:.3f} "
        f"[{row['ci_low']:.3f}, {row['ci_high']:.3f}], {row['n']} images, "
        f"{row['n_labels']} labels, {row['evaluations_per_image']:g} evaluations per image"
        for row in rows
        if not row["label"]
    ]
