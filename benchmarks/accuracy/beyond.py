"""Rules beyond the published one: which are more accurate at equal cost?

Each rule is a flag of evaluate and raced on the same test images, which chose nothing: what is
fitted is fitted on images of other splits or other data sets. Writes ``beyond.csv`` and
``beyond.md``; rows of data sets that are not measured are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.rejection import command_of
from benchmarks.core.compare import records_of
from benchmarks.core.flags import (
    add_data_root,
    add_datasets,
    add_report_only,
    entry_point,
    parser,
    selected,
)
from benchmarks.core.tables import format_p, read_rows, write_rows
from diffcls.data.option_use import root_for
from diffcls.metrics.statistics import mcnemar_exact, newcombe_interval, wilson_interval
from diffcls.runs.records import Record
from diffcls.support.files import write_text
from tools.learn_allocations import file_for

COMMAND = "python -m benchmarks.run beyond"
TABLE, RUNS = "beyond.csv", "tables"
COLUMNS = (
    *("rule", "dataset", "n", "accuracy", "ci_low", "ci_high", "against", "difference"),
    *("difference_low", "difference_high", "gained", "lost", "p", "evaluations_per_image"),
    *("fit_evaluations", "supervision", "fingerprint", "command", "device", "commit"),
)
UNLABELLED = 400
"""Images of the training split that the class bias is fitted on; chosen before any result."""
LEARNED = "LEARNED"
"""Stands for the file of a weighting learned on validation images of another data set."""


@dataclass(frozen=True)
class Part:
    """One data set, with the size of its sample of test images."""

    dataset: str
    images: int


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        name: as the page calls it.
        options: flags of evaluate.
        against: name of the rule that it changes; empty for the first one.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    against: str = ""


PUBLISHED, DEFAULT, ENSEMBLE = "even draws", "learned allocation", "80 templates, one per draw"
CLIP, HYBRID = "CLIP alone", "diffusion × CLIP"
RULES = (
    Rule(PUBLISHED, {"allocation": "even"}),
    Rule("learned weighting", {"weighting": LEARNED}, PUBLISHED),
    Rule(DEFAULT, {}, PUBLISHED),
    Rule("logarithm of the errors", {"vote": "log"}, DEFAULT),
    Rule("class bias", {"class_bias": UNLABELLED}, DEFAULT),
    Rule(ENSEMBLE, {"ensemble": "imagenet80", "aggregate": "rotate"}, DEFAULT),
    Rule(HYBRID, {"combine": "clip"}, DEFAULT),
    Rule(CLIP, {"method": "clip"}, HYBRID),
)
PARTS = (
    Part("digits", 500),
    Part("fashion_mnist", 500),
    Part("cifar10", 200),
    Part("scenes/relations", 200),
)


def _main(arguments: list[str]) -> int:
    p = parser("beyond", __doc__)
    for add in (add_data_root, add_datasets, add_report_only):
        add(p)
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        for part in selected(flags, PARTS):
            for row in measure(part, root_for(part.dataset, flags.data_root), output):
                _put(output / TABLE, row)
    text = "\n".join(page(read_rows(output / TABLE)))
    write_text(output / "beyond.md", text)
    print(text)
    return 0


main = entry_point(_main)


def _put(path: Path, row: Mapping[str, Any]) -> None:
    """Add or replace the row of a rule and data set; an interrupted benchmark keeps the rest."""
    stored = read_rows(path) if path.exists() else []
    places = [(part.dataset, rule.name) for part in PARTS for rule in RULES]
    rows = {(one["dataset"], one["rule"]): one for one in [*stored, row]}
    ordered = [rows[place] for place in places if place in rows]
    write_rows(path, ordered, COLUMNS, ".6g")


def measure(part: Part, data_root: str | None, output: Path) -> Iterator[dict[str, Any]]:
    """The rows of one data set, a row per rule, each as soon as it is measured."""
    from diffcls.evaluation.run import run_evaluation

    runs: dict[str, dict[str, Record]] = {}
    for rule in RULES:
        options: dict[str, Any] = {"dataset": part.dataset, "limit": part.images, **rule.options}
        options |= {"data_root": data_root, "threads": 1, "device": "cpu"}
        given = {name: value for name, value in options.items() if value is not None}
        if given.get("weighting") == LEARNED:
            given["weighting"] = file_for(part.dataset)
        command = command_of(_shown(given))
        (run,) = run_evaluation(**given, output_dir=str(output / RUNS), quiet=True, command=command)
        runs[rule.name] = records_of(output / RUNS, run["fingerprint"])
        yield {
            "rule": rule.name,
            "dataset": part.dataset,
            **figures(runs[rule.name], runs.get(rule.against)),
            "against": rule.against or None,
            "fit_evaluations": fit_evaluations(output / RUNS, run["fingerprint"]),
            "command": command,
            **{name: run[name] for name in ("supervision", "fingerprint", "device", "commit")},
        }


def _shown(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the paths of this checkout and machine as a reader would give them."""
    paths = {"weighting": f"diffcls/assets/allocations/{Path(given.get('weighting', '')).name}"}
    return {**given, **{n: p for n, p in (paths | {"data_root": "data"}).items() if n in given}}


def figures(
    run: Mapping[str, Record], reference: Mapping[str, Record] | None
) -> dict[str, float | int]:
    """Accuracy and cost of a run with 95 % intervals, and its paired difference to another one."""
    ids = sorted(run)
    right = np.array([run[i].ranking[0] == run[i].label for i in ids])
    low, high = wilson_interval(int(right.sum()), len(right))
    found: dict[str, float | int] = {"n": len(ids), "accuracy": float(right.mean())}
    found |= {"ci_low": low, "ci_high": high}
    found["evaluations_per_image"] = float(np.mean([run[i].evaluations for i in ids]))
    if reference is None:
        return found
    common = [i for i in ids if i in reference]
    ours, theirs = (
        np.array([one[i].ranking[0] == one[i].label for i in common]) for one in (run, reference)
    )
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    both, neither = int((ours & theirs).sum()), int((~ours & ~theirs).sum())
    low, high = newcombe_interval(both, gained, lost, neither)
    found |= {"difference": (gained - lost) / len(common), "difference_low": low}
    return found | {
        "difference_high": high,
        "gained": gained,
        "lost": lost,
        "p": mcnemar_exact(ours, theirs),
    }


def fit_evaluations(output: Path, fingerprint: str) -> int | None:
    """Evaluations that the fit of a run's class prior took; None without one."""
    from diffcls.runs.header import read_header
    from diffcls.support.cache import read_arrays

    spec = read_header(output / "runs" / fingerprint / "run.json")["spec"]
    if "class_prior" not in spec:
        return None
    rule, name = json.loads(spec["class_prior"]), [spec["model"], spec["model_revision"]]
    for path in (output / "fits").glob("class-prior-*.npz"):
        stored = read_arrays(path, "cached fit")
        defined_by = json.loads(str(stored["defined_by"]))
        if rule.items() <= defined_by.items() and defined_by["model"][:2] == name:
            return int(stored["evaluations"])
    return None


def page(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The report."""
    table = list(rows)
    yield from ("# Rules beyond the published one, at equal cost", "")
    yield (
        f"Written by `{COMMAND}` from [beyond.csv](beyond.csv), which has the command, commit and "
        "fingerprint of each figure. Every rule is a flag and is raced on the same test images, "
        "which chose nothing: weighting and allocation over time are learned on validation images "
        f"of another data set, the class bias on {UNLABELLED} unlabelled training images, the "
        "exponents of the product with CLIP on 200 validation images. Differences are in points of "
        "accuracy against the rule named, on the same images, with Newcombe's 95 % interval and "
        "McNemar's exact p; a rule helps or hurts where the interval leaves out 0. Evaluations "
        "are per image; those of the fit are spent once."
    )
    for dataset in dict.fromkeys(row["dataset"] for row in table):
        own = [row for row in table if row["dataset"] == dataset]
        yield from ("", f"## {dataset}", "", f"{own[0]['n']} test images.", "")
        yield "| rule | accuracy | difference | against | p | evaluations | of the fit |"
        yield "|---|---|---|---|---|---|---|"
        yield from map(_row, own)
        measured = {row["rule"] for row in own}
        if missing := [rule.name for rule in RULES if rule.name not in measured]:
            yield from ("", f"Not measured yet: {'; '.join(missing)}.")
    measured = {row["dataset"] for row in table}
    if missing := [part.dataset for part in PARTS if part.dataset not in measured]:
        yield from ("", f"Data sets not measured yet: {', '.join(missing)}.")
    yield from ("", "## Verdict", "")
    for rule in RULES[1:]:
        own = [row for row in table if row["rule"] == rule.name]
        if own:
            yield f"- {rule.name} against {rule.against}: {_verdict(own)}"
    yield ""


def _row(row: Mapping[str, Any]) -> str:
    accuracy = f"{row['accuracy']:.1%} [{row['ci_low']:.1%}, {row['ci_high']:.1%}]"
    difference, p = "", ""
    if row["against"]:
        low, high = 100 * row["difference_low"], 100 * row["difference_high"]
        difference = f"{100 * row['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"
        p = format_p(row["p"])
    hybrid = " (hybrid)" if row["supervision"] == "hybrid" else ""
    fit = "" if row["fit_evaluations"] is None else f"{row['fit_evaluations']:,}"
    cells = (accuracy, difference, row["against"] or "", p, f"{row['evaluations_per_image']:.0f}")
    return f"| {row['rule']}{hybrid} | {' | '.join(cells)} | {fit} |"


def _verdict(rows: list[Mapping[str, Any]]) -> str:
    """Where a rule helps, where it hurts, and the test over all data sets."""
    helps = [row["dataset"] for row in rows if row["difference_low"] > 0]
    hurts = [row["dataset"] for row in rows if row["difference_high"] < 0]
    gained, lost = sum(row["gained"] for row in rows), sum(row["lost"] for row in rows)
    p = mcnemar_exact([1] * gained + [0] * lost, [0] * gained + [1] * lost) if gained + lost else 1
    images = sum(row["n"] for row in rows)
    parts = [f"helps on {', '.join(helps)}"] * bool(helps)
    parts += [f"hurts on {', '.join(hurts)}"] * bool(hurts)
    found = "; ".join(parts) or "no difference is established on any data set"
    return (
        f"{found}. Over all {images:,} images it gains {gained} and loses {lost} "
        f"({100 * (gained - lost) / images:+.1f} points, p {format_p(p)})."
    )
