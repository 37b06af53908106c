"""The ``model-index`` block of a Hugging Face model card: measured rows as its metadata.

https://huggingface.co/docs/hub/model-cards#evaluation-results: one entry for each model, with task,
data set and metrics of each run. The schema has no place for intervals and training data, so they
are arguments of the metric, where they stay with the number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from diffcls.data import catalog
from diffcls.data.dataset_facts import FACTS
from diffcls.runs.clip_benchmark import WITHOUT_LABELS

METRICS = {
    "accuracy": ("accuracy", "Top-1 accuracy"),
    "top5": ("top_5_accuracy", "Top-5 accuracy"),
    "mean_per_class": ("mean_per_class_accuracy", "Mean accuracy per class"),
    "ece": ("expected_calibration_error", "Expected calibration error"),
    "evaluations_per_image": ("evaluations_per_image", "Network evaluations per image"),
}
"""Column -> type and name of its metric."""
FACTS_OF_RUN = ("method", "search", "setting", "supervision", "n_scored", "seed", "fingerprint")


def model_index(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The value of a card's ``model-index`` key, in plain JSON types.

    Args:
        rows: measured rows, values by the leaderboard's columns; a figure of None is left out.

    Returns:
        One entry for each model. ``huggingface_hub.repocard_data.model_index_to_eval_results``
        reads it.
    """
    models: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        models.setdefault(str(row["model"]), []).append(_result(row))
    return [{"name": name, "results": results} for name, results in models.items()]


def _result(row: Mapping[str, Any]) -> dict[str, Any]:
    name = str(row["dataset"])
    spec = catalog.SPECS.get(name)
    facts = FACTS.get(name)
    zero_shot = "zero-shot-" if row["supervision"] in WITHOUT_LABELS else ""
    words = "Zero-shot image classification" if zero_shot else "Image classification"
    return {
        "task": {"type": f"{zero_shot}image-classification", "name": words},
        "dataset": {
            "type": spec.hub.id if spec and spec.hub else name,
            "name": facts.title if facts and facts.title else name,
            "split": row["split"],
        },
        "metrics": [_metric(row, column) for column in METRICS if row[column] is not None],
    }


def _metric(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    kind, name = METRICS[column]
    facts = {fact: row[fact] for fact in FACTS_OF_RUN if row[fact] not in (None, "")}
    if column == "accuracy" and row["ci_low"] is not None:
        facts = {"confidence_interval_95": [row["ci_low"], row["ci_high"]], **facts}
    # the search tells apart the metrics of several runs on one data set
    return {"type": kind, "value": row[column], "name": name, "args": facts}


def model_index_yaml(rows: Iterable[Mapping[str, Any]]) -> str:
    """The block as YAML, to be pasted between the ``---`` lines of a model card."""
    import yaml

    block = {"model-index": model_index(rows)}
    text: str = yaml.safe_dump(block, sort_keys=False, allow_unicode=True)
    return text
