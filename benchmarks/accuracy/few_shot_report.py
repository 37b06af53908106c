"""few_shot.csv and FEW_SHOT.md, from the measurements of the few-shot benchmark."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.few_shot_means import CLIP, FEATURES
from benchmarks.accuracy.few_shot_tasks import (
    CONCEPT,
    MAIN_SHOTS,
    TASKS,
    TRAINED,
    UNLEARNED,
)
from benchmarks.core.tables import SIX_DIGITS, environment_of, markdown, read_rows, write_rows
from diffcls.metrics.statistics import bootstrap_interval, wilson_interval
from diffcls.support.files import write_text
from diffcls.support.types import Float64

NAME, COMMAND = "few_shot", "python -m benchmarks.run few_shot"
TABLE, PAGE, RUNS = "few_shot.csv", "FEW_SHOT.md", "few_shot_runs"
COLUMNS = (
    *("task", "class", "shots", "method", "classes", "seeds", "n", "recall", "ci_low", "ci_high"),
    *("old_n", "old_before", "old_after", "old_lost", "old_lost_high", "samples", "agreed"),
    *("agreed_low", "agreed_high", "judge", "judge_accuracy", "seconds", "model", "settings"),
    *("supervision", "command", "commit"),
)
KNOWN = "CLIP was trained with the class"
LEAST_RECALL, LEAST_OF_TRAINED, MOST_LOST, LEAST_AGREED = 0.8, 0.9, 0.03, 0.7
"""Least recall, also as a share of the recall of a model that was trained with the class; most
accuracy that old classes lose; least share of samples that are recognised."""


def write(output: Path) -> None:
    """Write table and page from what is measured; without any measurement, the page alone."""
    runs = [json.loads(path.read_text()) for path in sorted((output / RUNS).glob("*.json"))]
    if runs:
        write_rows(output / TABLE, list(rows(runs)), COLUMNS, SIX_DIGITS)
    write_text(output / PAGE, "\n".join(page(read_rows(output / TABLE), output)))


def rows(runs: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row per task, number of images and method; for few classes also one per class."""
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        groups[run["task"], run["shots"], run["method"]].append(run)
    for (task, shots, method), some in sorted(groups.items(), key=_place):
        names = sorted({run["class"] for run in some})
        yield _row(task, "all" if len(names) > 1 else names[0], shots, method, some)
        if 1 < len(names) <= 3:
            for name in names:
                one = [run for run in some if run["class"] == name]
                yield _row(task, name, shots, method, one)


def _place(group: tuple[tuple[str, int, str], Any]) -> Any:
    (task, shots, method), _ = group
    return task != "scenes", task, shots, method != CONCEPT, method


def _row(
    task: str, name: str, shots: int, method: str, runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    lost = _losses(runs)
    low, high = _recall_interval(runs)
    learns = method not in UNLEARNED
    row = {
        "task": task,
        "class": name,
        "shots": shots if learns else 0,
        "method": method,
        "classes": len({run["class"] for run in runs}),
        "seeds": len({run["seed"] for run in runs}) if learns else 0,
        "n": sum(len(run["recalled"]) for run in runs),
        "recall": float(np.mean([np.mean(run["recalled"]) for run in runs])),
        "ci_low": low,
        "ci_high": high,
        "old_n": len(lost),
        "old_before": _mean(runs, "old_right_before"),
        "old_after": _mean(runs, "old_right"),
        "old_lost": float(lost.mean()),
        "old_lost_high": _bound(lost),
        "model": ", ".join(sorted({Path(run["model"]).name for run in runs})),
        "supervision": _supervision(task, method, shots),
        "command": COMMAND,
        "commit": ", ".join(sorted({run["commit"] for run in runs})),
    }
    return row | _concept_columns(runs)


def _concept_columns(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The columns of concepts: their settings, cost and samples."""
    row: dict[str, Any] = {}
    if "seconds" in runs[0]:
        row["seconds"] = float(np.median([run["seconds"] for run in runs]))
        row["settings"] = json.dumps(runs[0]["settings"], sort_keys=True)
    sampled = [run for run in runs if "agreed" in run]
    if sampled:
        total, agreed = (sum(run[name] for run in sampled) for name in ("samples", "agreed"))
        row |= {"samples": total, "agreed": agreed / total}
        row["judge"] = TASKS[sampled[0]["task"]].clip
        row["agreed_low"], row["agreed_high"] = wilson_interval(agreed, total)
        right, images = (sum(r[name] for r in sampled) for name in ("judge_right", "judge_images"))
        row["judge_accuracy"] = right / images
    return row


def _supervision(task: str, method: str, shots: int) -> str:
    if method in UNLEARNED:
        return UNLEARNED[method]
    images = f"few-shot, {shots} image{'s' * (shots > 1)}"
    knows = method == CLIP and TASKS[task].dataset in _clip_data(TASKS[task].clip)
    return images + f"; {KNOWN}" * knows


@cache
def _clip_data(name: str) -> tuple[str, ...]:
    """Data sets that a CLIP was trained on."""
    from diffcls.models import clip

    return clip.load(name).card.trained_on


def _recall_interval(runs: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """95 % interval of the recall, over images and, of several classes, over classes.

    Wilson's of all images, whose hits are means over the seeds; for several classes at least
    Student's of the recalls of the classes:

        mean ± t_{0.975, C−1} · s/√C
    """
    from scipy import stats

    of_class: dict[str, list[Float64]] = defaultdict(list)
    for run in runs:
        of_class[run["class"]].append(np.asarray(run["recalled"], float))
    images = [np.mean(hits, axis=0) for hits in of_class.values()]
    hits = np.concatenate(images)
    low, high = wilson_interval(round(float(hits.sum())), len(hits))
    if len(images) > 1:
        recalls = np.array([one.mean() for one in images])
        half = stats.t.ppf(0.975, len(recalls) - 1) * recalls.std(ddof=1) / len(recalls) ** 0.5
        low = min(low, max(0.0, float(recalls.mean() - half)))
        high = max(high, min(1.0, float(recalls.mean() + half)))
    return low, high


def _bound(losses: Float64) -> float:
    """One-sided upper bound of the mean loss, 95 %, from the loss on each of n images.

    The upper end of a bootstrap interval of 90 %, but no less than what a share of images is with
    which n images show none: 1 − 0.05^(1/n).
    """
    unseen = 1 - 0.05 ** (1 / len(losses))
    return max(bootstrap_interval(losses, 0, confidence=0.9)[1], unseen)


def _losses(runs: Sequence[dict[str, Any]]) -> Float64:
    """Loss of accuracy on each image of an old class, the mean over classes and seeds."""
    losses: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for image, before, after in zip(
            run["old_images"], run["old_right_before"], run["old_right"], strict=True
        ):
            losses[image].append(float(before) - float(after))
    return np.array([np.mean(some) for some in losses.values()])


def _mean(runs: Sequence[dict[str, Any]], name: str) -> float:
    return float(np.mean([np.mean(run[name]) for run in runs]))


def page(rows: Sequence[dict[str, Any]], output: Path) -> Iterator[str]:
    """Lines of FEW_SHOT.md."""
    yield "# Classes from a few images"
    yield ""
    yield (
        f"Written by `{COMMAND}` from `{TABLE}`; {environment_of(output, NAME)['environment']}. "
        "A class that the model has never seen is learned from a few images of the training split "
        "and competes with all other classes, named in words, on test images. Recall is that of "
        "the new class; its interval is Wilson's over images, and at least Student's over classes. "
        "Old classes: accuracy on their test images without and with the new one, and how much "
        "they lose at most (one-sided, 95 %; n images bound no loss below 1 − 0.05^(1/n)). Means "
        "over three seeds, which choose the images."
    )
    for task in dict.fromkeys(row["task"] for row in rows):
        yield from ("", f"## {task}", "")
        yield from _table([row for row in rows if row["task"] == task])
        yield ""
        yield from verdicts([row for row in rows if row["task"] == task])


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    def lost(row: Mapping[str, Any]) -> str:
        return (
            f"{row['old_before']:.1%} → {row['old_after']:.1%}, at most {row['old_lost_high']:.1%}"
        )

    yield from markdown(
        rows,
        {
            "class": lambda r: f"{r['classes']} classes" if r["class"] == "all" else r["class"],
            "images": lambda r: f"{r['shots']}" if r["shots"] else "none",
            "method": lambda r: r["method"] + f" ({KNOWN})" * (KNOWN in r["supervision"]),
            "recall": lambda r: f"{r['recall']:.1%}",
            "95 % interval": lambda r: f"{r['ci_low']:.1%} to {r['ci_high']:.1%}",
            "old classes": lost,
            "samples recognised": lambda r: f"{r['agreed']:.0%}" if r.get("samples") else "",
            "seconds": lambda r: f"{r['seconds']:.0f}" if r.get("seconds") else "",
        },
    )


def verdicts(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What was aimed at, and whether it is met."""
    main = [row for row in rows if row["shots"] == MAIN_SHOTS and row["method"] == CONCEPT]
    for row in main:
        name = "" if row["class"] == "all" else f"{row['class']}, "
        lost = "met" if row["old_lost_high"] <= MOST_LOST else "missed"
        yield f"- {name}old classes lose at most {MOST_LOST:.0%}: {lost}."
        if row.get("samples"):
            agreed = "met" if row["agreed"] >= LEAST_AGREED else "missed"
            yield (
                f"- {name}`{row['judge']}` recognises {row['agreed']:.0%} of {row['samples']} "
                f"samples [{row['agreed_low']:.0%}, {row['agreed_high']:.0%}]; of the real images "
                f"{row['judge_accuracy']:.1%}. At least {LEAST_AGREED:.0%}: {agreed}."
            )
        yield from _recall_verdicts(row, rows, name)


def _recall_verdicts(
    row: dict[str, Any], rows: Sequence[dict[str, Any]], name: str
) -> Iterator[str]:
    def recall(method: str, shots: int) -> float | None:
        same = (row["class"], method, shots)
        found = [r["recall"] for r in rows if (r["class"], r["method"], r["shots"]) == same]
        return found[0] if found else None

    trained = recall(TRAINED, 0)
    aim = LEAST_RECALL if trained is None else LEAST_OF_TRAINED * trained
    words = "" if trained is None else f", {LEAST_OF_TRAINED:.0%} of the model trained with it"
    met = "met" if row["recall"] >= aim else "missed"
    yield f"- {name}recall of at least {aim:.1%}{words}: {met}."
    for method in FEATURES:
        mean = recall(method, MAIN_SHOTS)
        if mean is not None:
            better = "met" if row["recall"] >= mean else "missed"
            yield f"- {name}no less than the {method}, {mean:.1%}: {better}."
