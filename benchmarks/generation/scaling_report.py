"""results/reference/SCALING.md and scaling.png: how accuracy, likelihood and FID scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcls.support.files import write_text

Row = Mapping[str, Any]


def write(rows: Sequence[Row], output: Path) -> None:
    """Write page and plot from the rows of scaling.csv."""
    write_text(output / "SCALING.md", "\n".join(_page(rows)))
    plot(rows, output / "scaling.png")


def by_size(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each size, the smallest first, by training images."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["parameters"], row["training_images"])):
        groups.setdefault(str(row["unet_channels"]), []).append(row)
    return groups


def _page(rows: Sequence[Row]) -> Iterator[str]:
    extractors = ", ".join(dict.fromkeys(str(row["extractor"]) for row in rows))
    yield from ("# Scaling: accuracy, likelihood and FID over size and training", "")
    yield (
        "Written by `python -m benchmarks.run scaling` from `scaling.csv`. Models of Fashion-MNIST "
        "(recipes `long-small`, `long-middle` and `long`) and their snapshots over training, on "
        f"test images, racing at its default settings. FID is that of {extractors}, without "
        "guidance. Bits per dimension are those of the latents of each size's own autoencoder, "
        "trained by the same recipe: compare them within a size."
    )
    yield from ("", "![scaling](scaling.png)", "")
    yield (
        "| U-Net channels | parameters | MFLOP per evaluation | training images | accuracy | "
        "95 % interval | evaluations per image | bits per latent dimension | FID |"
    )
    yield "|---" * 9 + "|"
    for group in by_size(rows).values():
        for row in group:
            yield (
                f"| {row['unet_channels']} | {row['parameters']:,.0f} | {row['mflop']:.0f} | "
                f"{row['training_images']:,.0f} | {row['accuracy']:.1%} | {row['ci_low']:.1%} to "
                f"{row['ci_high']:.1%} | {row['evaluations_per_image']:.1f} | "
                f"{row['bits_per_dim']:.3f} ± {row['bits_stderr']:.3f} | {row['FID']:.3f} |"
            )
    yield ""


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot accuracy, bits per dimension and FID over training images, a line per size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, bits, fid = figure.subplots(1, 3)
    for group in by_size(rows).values():
        label = f"{group[0]['parameters'] / 1e6:.1f} M, {group[0]['mflop']:.0f} MFLOP"
        images = [row["training_images"] for row in group]
        value = [100 * row["accuracy"] for row in group]
        low, high = (
            [abs(100 * row[n] - v) for row, v in zip(group, value, strict=True)]
            for n in ("ci_low", "ci_high")
        )
        accuracy.errorbar(images, value, [low, high], marker="o", capsize=2, label=label)
        errors = [row["bits_stderr"] for row in group]
        values = [row["bits_per_dim"] for row in group]
        bits.errorbar(images, values, errors, marker="o", capsize=2)
        fid.plot(images, [row["FID"] for row in group], marker="o")
    accuracy.set(ylabel="accuracy, %")
    accuracy.legend(fontsize="small", title="U-Net")
    bits.set(ylabel="bits per latent dimension")
    fid.set(ylabel="FID", yscale="log")
    for axis in (accuracy, bits, fid):
        axis.set(xlabel="training images", xscale="log")
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
