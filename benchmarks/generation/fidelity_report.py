"""results/reference/FIDELITY.md: fidelity, likelihood and accuracy of the small models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.tables import read_rows, write_rows
from benchmarks.generation.fidelity_plot import Row, over_guidance, over_training, plot
from diffcls.metrics.generative import too_few
from diffcls.metrics.statistics import wilson_interval
from diffcls.support.files import write_text

GUIDED_COLUMNS = ("model", "judge", "weight", "n", "share", "ci_low", "ci_high", "by_chance")


def write(
    rows: Sequence[Row], guided: Sequence[Mapping[str, Any]], output: Path, classified: int
) -> None:
    """Write the page, the plot, and the table of guided samples.

    Args:
        rows: rows of fidelity.csv.
        guided: rows of `benchmarks.generation.guided.measure`; empty: those of guided.csv.
        output: folder of the results.
        classified: number of images behind each accuracy over training.
    """
    table = output / "guided.csv"
    if guided:
        write_rows(table, guided, GUIDED_COLUMNS)
    elif table.exists():
        guided = read_rows(table)
    write_text(output / "FIDELITY.md", "\n".join(_page(rows, guided, classified)))
    plot(rows, output / "fidelity.png")


def _page(
    rows: Sequence[Row], guided: Sequence[Mapping[str, Any]], classified: int
) -> Iterator[str]:
    yield from ("# Generation fidelity, likelihood and classification accuracy", "")
    yield (
        "Written by `python -m benchmarks.run fidelity` from `fidelity.csv` and `guided.csv`. "
        "Each figure states its feature extractor: none of these is the published FID, which uses "
        "an Inception network, and figures of different numbers of images are not comparable. "
        "Accuracy is that of the diffusion classifier, which uses no guidance."
    )
    yield from ("", "![fidelity over guidance and training](fidelity.png)", "")
    yield from _guidance(rows)
    yield from _likelihood(rows)
    yield from _training(rows, classified)
    yield from _guided(guided)


def _guidance(rows: Sequence[Row]) -> Iterator[str]:
    yield from ("## Over guidance", "")
    yield (
        "| model | feature extractor | images | guidance | FID | KID | IS | precision | recall | "
        "accuracy |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    metrics = ("FID", "KID", "IS", "precision", "recall")
    series_of = {metric: over_guidance(rows, metric) for metric in metrics}
    for series, fid_rows in series_of["FID"].items():
        for row in fid_rows:
            matching = [
                [r for r in series_of[m].get(series, ()) if r["guidance"] == row["guidance"]]
                for m in metrics
            ]
            cells = [_value(same[0]) if same else "" for same in matching]
            yield (
                f"| {row['model']} | {row['extractor']} | {row['n']} | {row['guidance']} | "
                f"{' | '.join(cells)} | {_share(row['accuracy'])} |"
            )
    yield from ("", *_warnings(rows))


def _warnings(rows: Sequence[Row]) -> Iterator[str]:
    """The bias warnings of the command, one per extractor and number of images."""
    seen = dict.fromkeys((r["extractor"], int(r["n"])) for r in rows if r["metric"] == "FID")
    for extractor, count in seen:
        width = extractor.rpartition("-")[2]
        few = too_few(count, int(width)) if width.isdecimal() else None
        if few:
            yield from (f"{extractor}: {few}.", "")


def _likelihood(rows: Sequence[Row]) -> Iterator[str]:
    bounds = [r for r in rows if r["metric"] == "bits_per_dim" and "@" not in r["model"]]
    if not bounds:
        return
    yield from ("## Likelihood", "")
    yield "Bounds on pixels are comparable among each other only, bounds on latents not at all."
    yield from (
        "",
        "| model | data | images | bits per dimension | accuracy |",
        "|---|---|---|---|---|",
    )
    for row in bounds:
        yield (
            f"| {row['model']} | {row['extractor']} | {row['n']} | {_value(row)} | "
            f"{_share(row['accuracy'])} |"
        )
    yield ""


def _training(rows: Sequence[Row], classified: int) -> Iterator[str]:
    if not over_training(rows, "FID"):
        return
    yield from ("## Over training", "")
    yield (
        "FID and KID at the stated guidance; unconditional bits per dimension; accuracy on "
        f"{classified} held-out images with its 95 % interval."
    )
    yield ""
    yield (
        "| training images | weights | feature extractor | images | guidance | FID | KID | "
        "bits per dimension | accuracy |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for averaged in (True, False):
        metrics = [over_training(rows, m, averaged) for m in ("FID", "KID", "bits_per_dim")]
        for row in metrics[0]:
            cells = [
                next((_value(r) for r in metric if r["model"] == row["model"]), "")
                for metric in metrics
            ]
            yield (
                f"| {int(row['training_images']):,} | {'averaged' if averaged else 'last'} | "
                f"{row['extractor']} | {row['n']} | {row['guidance']} | "
                f"{' | '.join(cells)} | {_interval(row['accuracy'], classified)} |"
            )
    yield ""
    classified_rows = [r for r in over_training(rows, "FID") if r["accuracy"]]
    if len(classified_rows) > 2:
        yield (
            f"Over the {len(classified_rows)} averaged models of this training, the rank "
            f"correlation of FID and accuracy is {_rank_correlation(classified_rows):+.2f} (-1: "
            "the better generator always classifies better)."
        )
        yield ""


def _rank_correlation(rows: Sequence[Row]) -> float:
    from scipy.stats import spearmanr

    values = [[float(r[name]) for r in rows] for name in ("value", "accuracy")]
    return float(spearmanr(*values).statistic)


def _interval(accuracy: str, count: int) -> str:
    if not accuracy:
        return ""
    low, high = wilson_interval(round(float(accuracy) * count), count)
    return f"{float(accuracy):.1%} ({low:.1%} to {high:.1%})"


def _guided(guided: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not guided:
        return
    first = guided[0]
    yield from ("## Classifier guidance of an unconditional model", "")
    yield (
        f"Samples of the unconditional `{first['model']}`, guided to a class by the gradient of a "
        "classifier of noisy images (`--guide classifier --guide-weight`). Their share of the "
        f"target class is measured by `{first['judge']}`, which is independent of both models. "
        f"Chance is {first['by_chance']:.0%}."
    )
    yield from (
        "",
        "| weight | images | of the target class | 95 % interval |",
        "|---|---|---|---|",
    )
    for row in guided:
        yield (
            f"| {row['weight']:g} | {row['n']} | {row['share']:.1%} | {row['ci_low']:.1%} to "
            f"{row['ci_high']:.1%} |"
        )
    yield ""


def _value(row: Row) -> str:
    value = f"{float(row['value']):.3f}"
    return f"{value} ± {float(row['stderr']):.3f}" if row["stderr"] else value


def _share(text: str) -> str:
    return f"{float(text):.1%}" if text else ""
