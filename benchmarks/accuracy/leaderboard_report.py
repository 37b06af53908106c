"""results/reference/LEADERBOARD.md: the published table's methods on small benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.report import MET, MISSED
from benchmarks.core.benchmark import Benchmark
from benchmarks.core.compare import compare, records_of
from benchmarks.core.tables import format_p
from diffcls.metrics.compositional import pair_scores
from diffcls.metrics.statistics import mcnemar_exact, wilson_interval
from diffcls.models.loading import CARD, WEIGHTS
from diffcls.runs.leaderboard import published_rows
from diffcls.runs.records import Record

Row = Mapping[str, Any]
SIGNIFICANCE = 0.05
"""Level of p below which two methods differ."""
AGAINST = "diffusion"
PAIRS = "scenes/pairs"


def write(benchmark: Benchmark, rows: Mapping[str, Row], output: Path, missed: list[str]) -> str:
    """The whole page.

    Args:
        benchmark: with the runs that were made.
        rows: label -> row of the leaderboard.
        output: folder of the records.
        missed: the missed expectations.
    """
    table: dict[str, dict[str, Row]] = {}
    for label, row in rows.items():
        dataset, _, method = label.partition(": ")
        table.setdefault(dataset, {})[method] = row
    records = {label: records_of(output, str(row["fingerprint"])) for label, row in rows.items()}
    return "\n".join(
        [
            f"# {benchmark.title}",
            "",
            *_introduction(benchmark),
            *_overview(table),
            *_losses(table, records),
            *_details(table, records),
            *_pairs(table, records),
            *_models(),
            *_published(),
            "## Expectations",
            "",
            f"Expectations: {benchmark.source}.",
            "",
            *([MISSED, "", *missed] if missed else [MET]),
            "",
            *_environments(rows),
        ]
    )


def _introduction(benchmark: Benchmark) -> list[str]:
    return [
        f"Written by `python -m benchmarks.run {benchmark.name}`; every figure is a row of "
        "`leaderboard.csv`, whose `command` reproduces it. Intervals are Wilson's at 95 %; p is "
        f"McNemar's exact test, image by image, against “{AGAINST}”.",
        "",
        "**Read `supervision` first.** The small models are trained on the training split of their "
        "own benchmark, with its class names: diffusion, CLIP and synthetic data are zero-shot on "
        "`scenes/held-out` alone, whose combinations are in no training caption. `sd-features` (a "
        "linear probe) and the references are trained on labels, on `scenes/held-out` too.",
        "",
    ]


def _overview(table: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """The table of methods by data sets; the best of a column is in bold."""
    methods = list(dict.fromkeys(method for rows in table.values() for method in rows))
    lines = [
        "## Accuracy, %",
        "",
        f"| method | {' | '.join(table)} |",
        "|---" * (len(table) + 1) + "|",
    ]
    for method in methods:
        cells = []
        for rows in table.values():
            if method not in rows:
                cells.append("–")
                continue
            best = max(row["accuracy"] for row in rows.values())
            text = f"{rows[method]['accuracy']:.1%}".removesuffix("%")
            cells.append(f"**{text}**" if rows[method]["accuracy"] == best else text)
        lines.append(f"| {method} | {' | '.join(cells)} |")
    counts = [str(next(iter(rows.values()))["n_scored"]) for rows in table.values()]
    classes = [str(next(iter(rows.values()))["n_classes"]) for rows in table.values()]
    lines += [f"| *images* | {' | '.join(counts)} |", f"| *candidates* | {' | '.join(classes)} |"]
    return [*lines, ""]


def _losses(
    table: Mapping[str, Mapping[str, Row]], records: Mapping[str, Mapping[str, Record]]
) -> list[str]:
    """Significant differences of the diffusion method to all others, losses first."""
    differences: dict[str, list[str]] = {"loses to": [], "beats": []}
    for dataset, rows in table.items():
        if AGAINST not in rows:
            continue
        for method, row in rows.items():
            if method == AGAINST:
                continue
            p, _ = compare(records[f"{dataset}: {method}"], records[f"{dataset}: {AGAINST}"])
            if p >= SIGNIFICANCE:
                continue
            gap = row["accuracy"] - rows[AGAINST]["accuracy"]
            verb = "loses to" if gap > 0 else "beats"
            differences[verb].append(
                f"- `{dataset}`: {verb} {method} ({row['supervision']}) by {abs(gap):.1%}, p "
                f"{format_p(p)}"
            )
    lines = ["## Significant losses of the diffusion method", ""]
    if not any(AGAINST in rows for rows in table.values()):
        return [*lines, "The diffusion method was not run.", ""]
    lines += differences["loses to"] or ["None."]
    lines += ["", "## Significant wins of the diffusion method", ""]
    return [*lines, *(differences["beats"] or ["None."]), ""]


def _details(
    table: Mapping[str, Mapping[str, Row]], records: Mapping[str, Mapping[str, Record]]
) -> list[str]:
    lines = ["## Every row", ""]
    for dataset, rows in table.items():
        lines += [
            f"### {dataset}",
            "",
            "| method | accuracy | 95 % interval | mean per class | ECE | evaluations per image | "
            "seconds per image | same prediction as diffusion | p | supervision | model | row |",
            "|---" * 12 + "|",
        ]
        for method, row in rows.items():
            equal, p = "", ""
            if AGAINST in rows:
                chance, agree = compare(
                    records[f"{dataset}: {method}"], records[f"{dataset}: {AGAINST}"]
                )
                equal, p = f"{agree} of {row['n_scored']}", format_p(chance)
            ece = "" if row["ece"] is None else f"{row['ece']:.3f}"
            lines.append(
                f"| {method} | {row['accuracy']:.1%} | {row['ci_low']:.1%} to {row['ci_high']:.1%} "
                f"| {row['mean_per_class']:.1%} | {ece} | {row['evaluations_per_image']:.1f} "
                f"| {row['seconds_per_image']:.4f} | {equal} | "
                f"{'' if method == AGAINST else p} | {row['supervision']} | {row['model']} | "
                f"`{row['fingerprint']}` |"
            )
        lines.append("")
    return lines


def _pairs(
    table: Mapping[str, Mapping[str, Row]], records: Mapping[str, Mapping[str, Record]]
) -> list[str]:
    """Text, image and group scores, with paired tests against the diffusion method."""
    if PAIRS not in table:
        return []
    lines = [
        "## Pairs of images and texts",
        "",
        "Two images and two sentences of the same words (Thrush et al. 2022). Text score: each "
        "image scores its own sentence higher; image score: each sentence scores its own image "
        "higher; group score: both. To compare images, the diffusion method subtracts the error "
        "of the empty prompt.",
        "",
        "| method | score | share of pairs | 95 % interval | chance | p |",
        "|---|---|---|---|---|---|",
    ]
    scores_of = {method: _pair_scores(records[f"{PAIRS}: {method}"]) for method in table[PAIRS]}
    against = scores_of.get(AGAINST, {})
    for method, scores in scores_of.items():
        both = sorted(scores.keys() & against.keys()) if method != AGAINST else []
        for i, (name, chance) in enumerate((("text", "25"), ("image", "25"), ("group", "16.7"))):
            correct = [flags[i] for flags in scores.values()]
            if not correct:
                lines.append(f"| {method} | {name} | no complete pair | | {chance} % | |")
                continue
            low, high = wilson_interval(sum(correct), len(correct))
            correct_here, correct_there = (
                [flags[n][i] for n in both] for flags in (scores, against)
            )
            p = format_p(mcnemar_exact(correct_here, correct_there)) if both else ""
            lines.append(
                f"| {method} | {name} | {np.mean(correct):.1%} | {low:.1%} to {high:.1%} | "
                f"{chance} % | {p} |"
            )
    return [*lines, ""]


def _pair_scores(records: Mapping[str, Record]) -> dict[int, tuple[bool, ...]]:
    """Text, image and group score of each pair whose images were both scored."""
    by_number = {int(image_id.rpartition("/")[2]): r for image_id, r in records.items()}
    pairs = [n for n in sorted(by_number) if n % 2 == 0 and n + 1 in by_number]
    if not pairs:
        return {}
    tables = np.array([[by_number[n].scores, by_number[n + 1].scores] for n in pairs], dtype=float)
    flags = np.stack(pair_scores(tables), axis=1).tolist()
    return {n: tuple(of_pair) for n, of_pair in zip(pairs, flags, strict=True)}


def _models() -> list[str]:
    """Training of the bundled models that classify."""
    lines = [
        "## Bundled models",
        "",
        "| model | training images | hours | device | validation accuracy |",
        "|---|---|---|---|---|",
    ]
    for path in sorted(WEIGHTS.glob(f"*/{CARD}")):
        card = json.loads(path.read_text(encoding="utf-8"))
        if "validation_accuracy" not in card:
            continue  # a pixel model or a noisy classifier: no method of this table
        before = card.get("continued_from", {"images": 0, "hours": 0.0})
        images, hours = card["recipe"]["images"] + before["images"], card["hours"] + before["hours"]
        lines.append(
            f"| `{card['name']}` | {images:,} | {hours:.2f} | "
            f"{card['device']} | {card['validation_accuracy']:.1%} on "
            f"{card.get('measured_on', card['name'])} |"
        )
    return [*lines, "", "Training curves are in the model cards, `diffcls/assets/weights/*`.", ""]


def _published() -> list[str]:
    """The published table, in a section of its own."""
    rows = [row for row in published_rows() if row["source"] == "published"]
    datasets = list(dict.fromkeys(str(row["dataset"]) for row in rows))
    lines = [
        "## Published figures, for comparison",
        "",
        "Li et al. 2023, with other models on other data; none of it was measured by this project.",
        "",
        f"| method | {' | '.join(datasets)} |",
        "|---" * (len(datasets) + 1) + "|",
    ]
    for method in dict.fromkeys((row["method"], row["model"]) for row in rows):
        cells = [
            f"{row['accuracy']:.1%}".removesuffix("%")
            for name in datasets
            for row in rows
            if (row["method"], row["model"], row["dataset"]) == (*method, name)
        ]
        lines.append(f"| {method[0]}, {method[1]} | {' | '.join(cells)} |")
    return [*lines, ""]


def _environments(rows: Mapping[str, Row]) -> list[str]:
    """Device, versions and commit of the rows."""
    environments = dict.fromkeys(
        f"{row['device']}, {row['versions']}, commit {row['commit'] or 'unknown'}"
        for row in rows.values()
    )
    return [f"{line}." for line in environments] + [""]
