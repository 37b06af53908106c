"""results/FIDELITY.md and fidelity.png: generators beside what they classify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcls.metrics.generative import too_few
from diffcls.metrics.statistics import wilson_interval
from diffcls.support.files import write_text

Row = Mapping[str, str]
SERIES = ("model", "dataset", "split", "extractor", "steps", "n")
"""What figures must have alike, for their guidance to be what sets them apart."""
Series = tuple[str, ...]


def write(
    rows: Sequence[Row], led: Sequence[Mapping[str, Any]], output: Path, classified: int
) -> None:
    """The page, the picture, and the table of what was led.

    Args:
        rows: of fidelity.csv.
        led: see `benchmarks.generation.fidelity.led_to_classes`; where it is empty, what led.csv
            holds.
        output: their folder.
        classified: images that accuracy over training is of.
    """
    import pandas as pd

    table = output / "led.csv"
    if led:
        write_text(table, pd.DataFrame(list(led)).to_csv(index=False))
    elif table.exists():
        led = pd.read_csv(table).to_dict("records")
    write_text(output / "FIDELITY.md", "\n".join(_page(rows, led, classified)))
    draw(rows, output / "fidelity.png")


def over_training(rows: Sequence[Row], metric: str, averaged: bool = True) -> list[Row]:
    """Rows of snapshots of one training, by images seen."""
    mine = [r for r in rows if "@" in r["model"] and r["metric"] == metric]
    mine = [r for r in mine if r["model"].endswith("not averaged") != averaged]
    return sorted(mine, key=lambda r: int(r["training_images"]))


def over_guidance(rows: Sequence[Row], metric: str) -> dict[Series, list[Row]]:
    """Rows of a metric by what must be alike for them to compare, each by its guidance."""
    found: dict[Series, list[Row]] = {}
    for row in rows:
        if row["metric"] == metric and row["guidance"] and "@" not in row["model"]:
            found.setdefault(tuple(row[name] for name in SERIES), []).append(row)
    return {
        series: sorted(mine, key=lambda r: float(r["guidance"])) for series, mine in found.items()
    }


def _page(rows: Sequence[Row], led: Sequence[Mapping[str, Any]], classified: int) -> Iterator[str]:
    yield from ("# Generators, and what they classify", "")
    yield (
        "Written by `python -m benchmarks.generation.fidelity`, from the rows of `fidelity.csv` "
        "and "
        "`led.csv`. What saw the images stands beside each figure: none of these is the published "
        "FID, which is that of an Inception network, and figures of different numbers of images do "
        "not compare. Accuracy is that of the diffusion classifier, which takes no guidance."
    )
    yield from ("", "![fidelity over guidance and training](fidelity.png)", "")
    yield from _guidance(rows)
    yield from _likelihood(rows)
    yield from _training(rows, classified)
    yield from _led(led)


def _guidance(rows: Sequence[Row]) -> Iterator[str]:
    yield from ("## Over guidance", "")
    yield "| model | seen by | images | guidance | FID | KID | IS | precision | recall | accuracy |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    metrics = ("FID", "KID", "IS", "precision", "recall")
    of = {metric: over_guidance(rows, metric) for metric in metrics}
    for series, mine in of["FID"].items():
        for row in mine:
            alike = [
                [r for r in of[m].get(series, ()) if r["guidance"] == row["guidance"]]
                for m in metrics
            ]
            cells = [_value(found[0]) if found else "" for found in alike]
            yield (
                f"| {row['model']} | {row['extractor']} | {row['n']} | {row['guidance']} | "
                f"{' | '.join(cells)} | {_share(row['accuracy'])} |"
            )
    yield from ("", *_warnings(rows))


def _warnings(rows: Sequence[Row]) -> Iterator[str]:
    """What the command warned of, once for each extractor and number of images."""
    seen = dict.fromkeys((r["extractor"], int(r["n"])) for r in rows if r["metric"] == "FID")
    for extractor, count in seen:
        width = extractor.rpartition("-")[2]
        few = too_few(count, int(width)) if width.isdecimal() else None
        if few:
            yield from (f"{extractor}: {few}.", "")


def _likelihood(rows: Sequence[Row]) -> Iterator[str]:
    mine = [r for r in rows if r["metric"] == "bits_per_dim" and "@" not in r["model"]]
    if not mine:
        return
    yield from ("## Likelihood", "")
    yield "Bounds of pixels compare with each other only, and those of latents with nothing."
    yield from (
        "",
        "| model | of | images | bits a dimension | accuracy |",
        "|---|---|---|---|---|",
    )
    for row in mine:
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
        "FID and KID at the guidance that stands beside them; bits a dimension of a model that is "
        f"told nothing; accuracy of {classified} held-out images, with its 95 % interval."
    )
    yield ""
    yield (
        "| images seen | weights | seen by | images | guidance | FID | KID | bits a dimension | "
        "accuracy |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for averaged in (True, False):
        of = {m: over_training(rows, m, averaged) for m in ("FID", "KID", "bits_per_dim")}
        for row in of["FID"]:
            cells = [
                next((_value(r) for r in mine if r["model"] == row["model"]), "")
                for mine in of.values()
            ]
            yield (
                f"| {int(row['training_images']):,} | {'averaged' if averaged else 'last'} | "
                f"{row['extractor']} | {row['n']} | {row['guidance']} | "
                f"{' | '.join(cells)} | {_interval(row['accuracy'], classified)} |"
            )
    yield ""
    together = [r for r in over_training(rows, "FID") if r["accuracy"]]
    if len(together) > 2:
        yield (
            f"Over the {len(together)} averaged models of this training the rank correlation of "
            f"FID with accuracy is {_rank_correlation(together):+.2f} (-1: the better generator "
            "always classifies better)."
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


def _led(led: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not led:
        return
    first = led[0]
    yield from ("## Asked for no class, and led to one", "")
    yield (
        f"Samples of `{first['model']}`, which was never told a class, led to one by the gradient "
        "of a classifier of noisy images alone (`--guide classifier --guide-weight`); "
        f"`{first['judge']}`, which took no part, says how many are of the class they were led to. "
        f"By chance it is {first['by_chance']:.0%}."
    )
    yield from ("", "| weight | images | of the class | 95 % interval |", "|---|---|---|---|")
    for row in led:
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


def draw(rows: Sequence[Row], path: Path) -> None:
    """FID over guidance, precision against recall; over training FID, accuracy and likelihood."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trained = bool(over_training(rows, "FID"))
    figure = Figure(figsize=(12, 3.8 * (1 + trained)), layout="constrained")
    FigureCanvasAgg(figure)
    guidance, trade, *training = figure.subplots(1 + trained, 2).flat
    recall = over_guidance(rows, "recall")
    precision = over_guidance(rows, "precision")
    for series, mine in over_guidance(rows, "FID").items():
        if len(mine) < 2:
            continue
        label = f"{series[SERIES.index('model')]}, by {series[SERIES.index('extractor')]}"
        x = [float(r["guidance"]) for r in mine]
        guidance.plot(x, [float(r["value"]) for r in mine], marker="o", label=label)
        both = [[float(r["value"]) for r in of.get(series, ())] for of in (recall, precision)]
        if len(both[0]) == len(both[1]):
            trade.plot(*both, marker="o", label=label)
    guidance.set(xlabel="guidance", ylabel="FID", yscale="log")
    trade.set(xlabel="recall", ylabel="precision")
    if trained:
        fidelity, likelihood = training
        seen_by = ", ".join(dict.fromkeys(r["extractor"] for r in over_training(rows, "FID")))
        _draw_training(rows, "FID", fidelity, f"FID by {seen_by}")
        _draw_training(rows, "bits_per_dim", likelihood, "bits a dimension, at most")
        fidelity.set_yscale("log")
        _draw_accuracy(rows, fidelity.twinx())
    for axis in (guidance, trade, *training):
        axis.grid(alpha=0.3)
    trade.legend(fontsize="small")  # the lines of guidance are the same
    for axis in training:
        axis.legend(fontsize="small", loc="center right")
    figure.savefig(path, dpi=120)


def _draw_training(rows: Sequence[Row], metric: str, axis: Any, says: str) -> None:
    """A metric over a training, on matplotlib's axes."""
    for averaged, style in ((True, "-"), (False, ":")):
        mine = over_training(rows, metric, averaged)
        value, stderr = ([float(r[name] or 0) for r in mine] for name in ("value", "stderr"))
        label = f"{metric}, {'averaged' if averaged else 'last'} weights"
        axis.errorbar(_thousands(mine), value, stderr, ls=style, marker="o", label=label)
    axis.set(xlabel="thousand images seen", ylabel=says)


def _draw_accuracy(rows: Sequence[Row], axis: Any) -> None:
    mine = [r for r in over_training(rows, "FID") if r["accuracy"]]
    accuracy = [100 * float(r["accuracy"]) for r in mine]
    axis.plot(_thousands(mine), accuracy, color="tab:green", marker="s")
    axis.set_ylabel("accuracy, % (squares)", color="tab:green")


def _thousands(rows: Sequence[Row]) -> list[float]:
    return [int(r["training_images"]) / 1000 for r in rows]
