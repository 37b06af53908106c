"""The tables of a report, for ``--csv``: one header for each file, rows of all runs."""

from __future__ import annotations

from collections.abc import Sequence

from diffcls.reports.page.files import Table
from diffcls.reports.page.paired import Group
from diffcls.reports.page.sections import Section

HEADERS: dict[str, tuple[str, ...]] = {
    "errors.csv": (
        *("image", "label", "answer", "probability", "runner_up", "runner_up_probability"),
        *("label_probability", "evaluations", "run"),
    ),
    "report-classes.csv": ("run", "class", "name", "n", "correct", "accuracy", "ci_low", "ci_high"),
    "report-confusion.csv": ("run", "label", "answer", "images"),
    "report-evaluations.csv": ("run", "from", "to", "n", "correct", "ci_low", "ci_high"),
    "report-calibration.csv": ("run", "temperature", "n", "confidence", "accuracy", "ece"),
    "report-timesteps.csv": (
        *("run", "from", "to", "n", "label_error", "rival_error", "difference", "stderr", "share"),
    ),
    "report-paired.csv": (
        *("run", "against", "n", "difference", "ci_low", "ci_high", "gained", "lost"),
        *("p", "p_holm", "cost_ratio"),
    ),
}
"""File -> its columns. ``errors.csv`` lists each wrong image of each run."""


def tables(sections: Sequence[Section], groups: Sequence[Group]) -> dict[str, Table]:
    """File -> header and rows; fractions are 0 to 1, undefined figures are empty."""
    rows: dict[str, list[Sequence[object]]] = {name: [head] for name, head in HEADERS.items()}
    for one in sections:
        run = one.results.run.fingerprint
        rows["errors.csv"] += errors(one)
        rows["report-classes.csv"] += [
            (
                run,
                c.index,
                one.results.name_of(c.index),
                c.n,
                c.correct,
                *_numbers(c.accuracy, c.low, c.high),
            )
            for c in one.classes
        ]
        names = one.results.name_of
        rows["report-confusion.csv"] += [(run, names(i), names(j), n) for i, j, n in one.pairs]
        rows["report-evaluations.csv"] += [
            (run, b.low, b.high, b.n, b.correct, *_numbers(b.ci_low, b.ci_high)) for b in one.bands
        ]
        if one.calibration is not None:
            scaled = " ".join(f"{t:.6g}" for t in one.calibration.temperatures)
            for label, part in (("1", one.calibration.before), (scaled, one.calibration.after)):
                rows["report-calibration.csv"] += [
                    (run, label, b.n, *_numbers(b.confidence, b.accuracy, part.ece))
                    for b in (part.bins if part is not None else ())
                    if part is not None
                ]
        rows["report-timesteps.csv"] += [
            (
                run,
                f"{t.low:g}",
                f"{t.high:g}",
                t.n,
                *_numbers(t.label_error, t.rival_error, t.difference, t.stderr, t.share),
            )
            for t in one.times
        ]
    for group in groups:
        for pairing in group.pairings:
            rows["report-paired.csv"] += [
                (
                    d.fingerprint,
                    d.against,
                    pairing.n_shared[d.fingerprint],
                    *_numbers(d.difference, d.ci_low, d.ci_high),
                    d.n_gained,
                    d.n_lost,
                    *_numbers(d.p_value, d.p_holm, d.cost_ratio),
                )
                for d in pairing.differences
            ]
    return dict(rows)


def errors(one: Section) -> list[Sequence[object]]:
    """A row of ``errors.csv`` for each wrong image, by image id."""
    results = one.results
    lines: list[Sequence[object]] = []
    for i, record in enumerate(results.records):
        if record.label == record.ranking[0]:
            continue
        name = one.names_of(record)
        label, answer, second = record.label, record.ranking[0], record.ranking[1]
        p = None if results.probabilities is None else results.probabilities[i]
        shown = [None if p is None else float(p[k]) for k in (answer, second, label)]
        best, runner_up, of_label = _numbers(*shown)
        lines.append(
            (
                *(record.image_id, name(label), name(answer), best),
                *(name(second), runner_up, of_label),
                *(record.evaluations, results.run.fingerprint),
            )
        )
    return lines


def _numbers(*values: float | None) -> tuple[str, ...]:
    return tuple("" if value is None else f"{value:.6g}" for value in values)
