"""results/FIDELITY.md and fidelity.png: generators beside what they classify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcls.atomic import write_text

Row = Mapping[str, str]


def write(rows: Sequence[Row], led: Sequence[Mapping[str, Any]], output: Path) -> None:
    """The page and the picture.

    Args:
        rows: of fidelity.csv.
        led: see `benchmarks.generative.led_to_classes`.
        output: their folder.
    """
    write_text(output / "FIDELITY.md", "\n".join(_page(rows, led)))
    draw(rows, output / "fidelity.png")


def over_training(rows: Sequence[Row], metric: str, averaged: bool = True) -> list[Row]:
    """Rows of snapshots of one training, by images seen."""
    mine = [r for r in rows if "@" in r["model"] and r["metric"] == metric]
    mine = [r for r in mine if r["model"].endswith("not averaged") != averaged]
    return sorted(mine, key=lambda r: int(r["training_images"]))


def over_guidance(rows: Sequence[Row], metric: str) -> dict[str, list[Row]]:
    """Rows of a model at several scales of guidance, by model."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["metric"] == metric and row["guidance"] and "@" not in row["model"]:
            found.setdefault(row["model"], []).append(row)
    most = {model: max(int(r["n"]) for r in mine) for model, mine in found.items()}
    return {
        model: sorted(
            (r for r in mine if int(r["n"]) == most[model]), key=lambda r: float(r["guidance"])
        )
        for model, mine in found.items()
    }


def _page(rows: Sequence[Row], led: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from ("# Generators, and what they classify", "")
    yield (
        "Written by `python -m benchmarks.generative`; every figure is a row of `fidelity.csv`. "
        "What saw the images stands beside each figure: none of these is the published FID, which "
        "is that of an Inception network. Accuracy is that of the diffusion classifier."
    )
    yield from ("", "![fidelity over guidance and training](fidelity.png)", "")
    yield from _guidance(rows)
    yield from _training(rows)
    yield from _led(led)


def _guidance(rows: Sequence[Row]) -> Iterator[str]:
    yield from ("## Over guidance", "")
    yield "| model | seen by | images | guidance | FID | KID | IS | precision | recall | accuracy |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    metrics = ("FID", "KID", "IS", "precision", "recall")
    of = {metric: over_guidance(rows, metric) for metric in metrics}
    for model, mine in of["FID"].items():
        for row in mine:
            cells = [
                next(
                    (_value(r) for r in of[m].get(model, ()) if r["guidance"] == row["guidance"]),
                    "",
                )
                for m in metrics
            ]
            yield (
                f"| {model} | {row['extractor']} | {row['n']} | {row['guidance']} | "
                f"{' | '.join(cells)} | {_share(row['accuracy'])} |"
            )
    yield ""


def _training(rows: Sequence[Row]) -> Iterator[str]:
    if not over_training(rows, "FID"):
        return
    yield from ("## Over training", "")
    yield "| images seen | weights | FID | KID | bits a dimension | accuracy |"
    yield "|---|---|---|---|---|---|"
    for averaged in (True, False):
        of = {m: over_training(rows, m, averaged) for m in ("FID", "KID", "bits_per_dim")}
        for row in of["FID"]:
            cells = [
                next((_value(r) for r in mine if r["model"] == row["model"]), "")
                for mine in of.values()
            ]
            yield (
                f"| {int(row['training_images']):,} | {'averaged' if averaged else 'last'} | "
                f"{' | '.join(cells)} | {_share(row['accuracy'])} |"
            )
    yield ""


def _led(led: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not led:
        return
    first = led[0]
    yield from ("## An unconditional model, led to a class", "")
    yield (
        f"Samples of `{first['model']}` without any class, led by the gradient of a classifier of "
        f"noisy images; `{first['judge']}`, which took no part, says how many are of the class "
        f"they were led to. By chance it is {first['by_chance']:.0%}."
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
    """FID over guidance, precision against recall, and FID beside accuracy over training."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    guidance, trade, training = figure.subplots(1, 3)
    for model, mine in over_guidance(rows, "FID").items():
        x = [float(r["guidance"]) for r in mine]
        guidance.plot(x, [float(r["value"]) for r in mine], marker="o", label=model)
    recall = over_guidance(rows, "recall")
    for model, mine in over_guidance(rows, "precision").items():
        if len(mine) != len(recall.get(model, ())):
            continue
        x = [float(r["value"]) for r in recall[model]]
        trade.plot(x, [float(r["value"]) for r in mine], marker="o", label=model)
    guidance.set(xlabel="guidance", ylabel="FID, by each set's CLIP", yscale="log")
    trade.set(xlabel="recall", ylabel="precision")
    for averaged, style in ((True, "-"), (False, ":")):
        mine = over_training(rows, "FID", averaged)
        x = [int(r["training_images"]) / 1000 for r in mine]
        label = "averaged weights" if averaged else "last weights"
        training.plot(
            x, [float(r["value"]) for r in mine], style, marker="o", label=f"FID, {label}"
        )
    training.set(xlabel="thousand images seen", ylabel="FID")
    beside = training.twinx()
    mine = [r for r in over_training(rows, "FID") if r["accuracy"]]
    x = [int(r["training_images"]) / 1000 for r in mine]
    accuracy = [100 * float(r["accuracy"]) for r in mine]
    beside.plot(x, accuracy, color="tab:green", marker="s", label="accuracy")
    beside.set_ylabel("accuracy, %")
    for axis in (guidance, trade, training):
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=120)
