"""results/LEADERBOARD.md: the shape of the published table, measured here, with paired tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core.benchmark import Benchmark
from benchmarks.core.compare import compare, records_of
from diffcls.metrics.compositional import pair_scores
from diffcls.metrics.statistics import mcnemar_exact, wilson_interval
from diffcls.models.loading import CARD, WEIGHTS
from diffcls.runs.leaderboard import published_rows
from diffcls.runs.records import Record

Row = Mapping[str, Any]
SURE = 0.05
"""Below this p two methods differ."""
AGAINST = "diffusion"
PAIRS = "scenes/pairs"


def write(benchmark: Benchmark, rows: Mapping[str, Row], output: Path, missed: list[str]) -> str:
    """The whole page.

    Args:
        benchmark: with the runs that were made.
        rows: label -> row of the leaderboard.
        output: where the records lie.
        missed: what is not as expected.
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
            "## What was expected",
            "",
            f"Expectations: {benchmark.source}.",
            "",
            *(["What misses them:", *missed] if missed else ["All figures are as expected."]),
            "",
            *_made(rows),
        ]
    )


def _introduction(benchmark: Benchmark) -> list[str]:
    return [
        f"Written by `python -m benchmarks.run {benchmark.name}`; every figure is a row of "
        "`leaderboard.csv`, whose `command` makes it again. Intervals are Wilson's at 95 %; p is "
        f"McNemar's exact test, image by image, against “{AGAINST}”.",
        "",
        "**Read `supervision` first.** The small models are trained on the training split of their "
        "own benchmark, with its class names: diffusion, CLIP and synthetic data are zero-shot on "
        "`scenes/held-out` alone, whose combinations no caption ever named. “SD features” and the "
        "references learn from labels, on `scenes/held-out` too.",
        "",
    ]


def _overview(table: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """Methods by data sets, as the published table; the best of a column is set in bold."""
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
    """Where the diffusion method loses for sure, and where it wins."""
    said: dict[str, list[str]] = {"loses to": [], "beats": []}
    for dataset, rows in table.items():
        if AGAINST not in rows:
            continue
        for method, row in rows.items():
            if method == AGAINST:
                continue
            p, _ = compare(records[f"{dataset}: {method}"], records[f"{dataset}: {AGAINST}"])
            if p >= SURE:
                continue
            gap = row["accuracy"] - rows[AGAINST]["accuracy"]
            verb = "loses to" if gap > 0 else "beats"
            said[verb].append(
                f"- `{dataset}`: {verb} {method} ({row['supervision']}) by {abs(gap):.1%}, p "
                f"{_p(p)}"
            )
    lines = ["## Where the diffusion method loses", ""]
    if not any(AGAINST in rows for rows in table.values()):
        return [*lines, "It was not run.", ""]
    lines += said["loses to"] or ["Nowhere for sure."]
    lines += ["", "And where it wins:", ""]
    return [*lines, *(said["beats"] or ["Nowhere for sure."]), ""]


def _details(
    table: Mapping[str, Mapping[str, Row]], records: Mapping[str, Mapping[str, Record]]
) -> list[str]:
    lines = ["## Every row", ""]
    for dataset, rows in table.items():
        lines += [
            f"### {dataset}",
            "",
            "| method | accuracy | 95 % interval | mean per class | ECE | evaluations an image | "
            "seconds an image | same answer as diffusion | p | supervision | model | row |",
            "|---" * 12 + "|",
        ]
        for method, row in rows.items():
            same, p = "", ""
            if AGAINST in rows:
                chance, agree = compare(
                    records[f"{dataset}: {method}"], records[f"{dataset}: {AGAINST}"]
                )
                same, p = f"{agree} of {row['n_scored']}", _p(chance)
            ece = "" if row["ece"] is None else f"{row['ece']:.3f}"
            lines.append(
                f"| {method} | {row['accuracy']:.1%} | {row['ci_low']:.1%} to {row['ci_high']:.1%} "
                f"| {row['mean_per_class']:.1%} | {ece} | {row['evaluations_per_image']:.1f} "
                f"| {row['seconds_per_image']:.4f} | {same} | "
                f"{'' if method == AGAINST else p} | {row['supervision']} | {row['model']} | "
                f"`{row['fingerprint']}` |"
            )
        lines.append("")
    return lines


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _pairs(
    table: Mapping[str, Mapping[str, Row]], records: Mapping[str, Mapping[str, Record]]
) -> list[str]:
    """Text, image and group scores, with paired tests against the diffusion method."""
    if PAIRS not in table:
        return []
    lines = [
        "## Pairs of images and texts",
        "",
        "Two images, two sentences of the same words (Thrush et al. 2022): the text score asks "
        "whether each image prefers its own sentence, the image score whether each sentence "
        "prefers its own image, the group score for both. Across images the diffusion method takes "
        "the error of the empty prompt off.",
        "",
        "| method | score | share of pairs | 95 % interval | by chance | p |",
        "|---|---|---|---|---|---|",
    ]
    found = {method: _pair_scores(records[f"{PAIRS}: {method}"]) for method in table[PAIRS]}
    against = found.get(AGAINST, {})
    for method, scores in found.items():
        both = sorted(scores.keys() & against.keys()) if method != AGAINST else []
        for i, (name, chance) in enumerate((("text", "25"), ("image", "25"), ("group", "16.7"))):
            right = [flags[i] for flags in scores.values()]
            if not right:
                lines.append(f"| {method} | {name} | no whole pair | | {chance} % | |")
                continue
            low, high = wilson_interval(sum(right), len(right))
            mine, other = ([flags[n][i] for n in both] for flags in (scores, against))
            lines.append(
                f"| {method} | {name} | {np.mean(right):.1%} | {low:.1%} to {high:.1%} | "
                f"{chance} % | {_p(mcnemar_exact(mine, other)) if both else ''} |"
            )
    return [*lines, ""]


def _pair_scores(records: Mapping[str, Record]) -> dict[int, tuple[bool, ...]]:
    """Text, image and group score by pair, of the pairs whose images were both scored."""
    by_number = {int(image_id.rpartition("/")[2]): r for image_id, r in records.items()}
    pairs = [n for n in sorted(by_number) if n % 2 == 0 and n + 1 in by_number]
    if not pairs:
        return {}
    tables = np.array([[by_number[n].scores, by_number[n + 1].scores] for n in pairs], dtype=float)
    flags = np.stack(pair_scores(tables), axis=1).tolist()
    return {n: tuple(of_pair) for n, of_pair in zip(pairs, flags, strict=True)}


def _models() -> list[str]:
    """What each small model of the package has seen."""
    lines = [
        "## The small models",
        "",
        "| model | images seen | hours | on | validation accuracy |",
        "|---|---|---|---|---|",
    ]
    for path in sorted(WEIGHTS.glob(f"*/{CARD}")):
        card = json.loads(path.read_text(encoding="utf-8"))
        if "validation_accuracy" not in card:
            continue  # a model of pixels, or a classifier that leads one: no method of this table
        before = card.get("continued_from", {"images": 0, "hours": 0.0})
        images, hours = card["recipe"]["images"] + before["images"], card["hours"] + before["hours"]
        lines.append(
            f"| `{card['name']}` | {images:,} | {hours:.2f} | "
            f"{card['device']} | {card['validation_accuracy']:.1%} on "
            f"{card.get('measured_on', card['name'])} |"
        )
    return [*lines, "", "Their curves over training are in their cards, `diffcls/weights/*`.", ""]


def _published() -> list[str]:
    """The published table itself, so that both can be read side by side; never mixed."""
    rows = [row for row in published_rows() if row["source"] == "published"]
    datasets = list(dict.fromkeys(str(row["dataset"]) for row in rows))
    lines = [
        "## Published figures, for comparison",
        "",
        "Li et al. 2023, of other models on other data; nothing here was measured by this project.",
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


def _made(rows: Mapping[str, Row]) -> list[str]:
    """With what the rows were made."""
    made = dict.fromkeys(
        f"{row['device']}, {row['versions']}, commit {row['commit'] or 'unknown'}"
        for row in rows.values()
    )
    return [f"{line}." for line in made] + [""]
