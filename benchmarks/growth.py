"""``python -m benchmarks.growth``: cost against the number of classes, images and rows a batch.

Writes ``results/growth.csv``, ``GROWTH.md`` and ``growth.png``. The classes are scenes of one
drawing, as many as one likes (``scenes:N``). Each measurement is a process of its own with one
thread; its memory is the peak above that of the process with the model loaded, before any prompt
was encoded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from diffcls.cli import Parser, command
from diffcls.errors import UsageError

CLASSES = (10, 30, 100, 300, 1000)
SEARCHES = ("racing", "tree", "gradient")
IMAGES = 100
BATCHES = (8, 16, 32, 64, 128, 256)
MORE_IMAGES = (50, 200, 800)
COLUMNS = (
    "what",
    "classes",
    "search",
    "images",
    "batch",
    "accuracy",
    "ci_low",
    "ci_high",
    "evaluations_per_image",
    "images_per_second",
    "evaluations_per_second",
    "memory_mib",
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.growth", description=__doc__.splitlines()[0])
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"({IMAGES})")
    p.add_argument("--classes", type=int, nargs="+", default=CLASSES, metavar="N")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time")
    p.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    flags = p.parse_args(arguments)
    if flags.one:
        print(json.dumps(measure(**json.loads(flags.one))))
        return 0
    wishes = [*_wishes(flags.classes, flags.images)]
    with ThreadPoolExecutor(flags.jobs) as pool:
        rows = list(pool.map(_in_a_process, wishes))
    write(rows, Path(flags.output_dir))
    return 0


def _wishes(classes: Sequence[int], images: int) -> Iterator[dict[str, Any]]:
    for count in classes:
        for search in SEARCHES:
            yield {"what": "classes", "classes": count, "search": search, "images": images}
    for number in MORE_IMAGES:
        yield {"what": "images", "classes": 10, "search": "racing", "images": number}
    for batch in BATCHES:
        yield {"what": "batch", "classes": 10, "search": "racing", "images": 100, "batch": batch}


def _in_a_process(wish: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.growth", "--one", json.dumps(wish)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(row), file=sys.stderr)
    return row


def measure(what: str, classes: int, search: str, images: int, batch: int = 64) -> dict[str, Any]:
    """One row: a search on images of so many classes, in this process.

    Args:
        what: which of the questions it belongs to.
        classes, search, images, batch: what is measured.
    """
    from diffcls.data import sources, specs
    from diffcls.data.subsets import choose
    from diffcls.methods.diffusion import DiffusionMethod
    from diffcls.metrics import wilson_interval
    from diffcls.models import loading
    from diffcls.prompts import PromptSet
    from diffcls.provenance import denormals_flushed, set_threads
    from diffcls.search import SEARCHES as KINDS

    set_threads(1)
    data, _ = choose(sources.load(f"scenes:{classes}", "test"), images)
    templates = specs.find(data.name).templates
    prompts = PromptSet.from_templates(data.class_names, templates, data.prompt_names)
    denoiser = loading.load("scenes")
    with denormals_flushed():
        loaded = _memory("VmRSS")
        _forget_peak()
        allocation = denoiser.card.allocation
        method = DiffusionMethod(
            denoiser, prompts, KINDS.load(search)(), batch_size=batch, allocation=allocation
        )
        began = time.perf_counter()
        answers = {answer.image_id: answer for answer in method.classify(data.items)}
        seconds = time.perf_counter() - began
        peak = _memory("VmHWM")
    right = sum(answers[item.image_id].ranking[0] == item.label for item in data.items)
    evaluations = sum(answer.evaluations for answer in answers.values())
    low, high = wilson_interval(int(right), len(answers))
    return {
        "what": what,
        "classes": classes,
        "search": search,
        "images": len(answers),
        "batch": batch,
        "accuracy": int(right) / len(answers),
        "ci_low": low,
        "ci_high": high,
        "evaluations_per_image": evaluations / len(answers),
        "images_per_second": len(answers) / seconds,
        "evaluations_per_second": evaluations / seconds,
        "memory_mib": peak - loaded,
    }


def _memory(field: str) -> float:
    """A field of this process's status, in MiB.

    Raises:
        UsageError: on a system that keeps none.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise UsageError("memory can only be measured on Linux", given=str(error)) from error
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def _forget_peak() -> None:
    """Begin the peak of this process's memory anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def write(rows: list[dict[str, Any]], output: Path) -> None:
    """The three files."""
    import pandas as pd

    from diffcls.atomic import write_text
    from diffcls.provenance import describe_device, set_threads, versions

    set_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    write_text(output / "growth.csv", frame.to_csv(index=False, float_format="%.6g"))
    lines = [
        "# Cost against the number of classes, images, and rows a batch",
        "",
        "Written by `python -m benchmarks.growth`: scenes of one drawing, one thread a process; "
        f"{describe_device('cpu')}, {versions()}. Memory is the peak above the loaded model.",
        "",
        "![evaluations and accuracy against the number of classes](growth.png)",
        "",
        "| what grows | classes | search | images | rows a batch | accuracy | 95 % interval | "
        "evaluations an image | images/s | evaluations/s | memory, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['what']} | {r['classes']:,} | {r['search']} | {r['images']} | {r['batch']} | "
        f"{r['accuracy']:.1%} | {r['ci_low']:.1%} to {r['ci_high']:.1%} | "
        f"{r['evaluations_per_image']:,.1f} | {r['images_per_second']:.2f} | "
        f"{r['evaluations_per_second']:,.0f} | {r['memory_mib']:.0f} |"
        for r in rows
    ]
    write_text(output / "GROWTH.md", "\n".join([*lines, ""]))
    draw([row for row in rows if row["what"] == "classes"], output / "growth.png")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Evaluations and accuracy against the number of classes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for search in dict.fromkeys(row["search"] for row in rows):
        mine = [row for row in rows if row["search"] == search]
        x = [row["classes"] for row in mine]
        left.plot(x, [r["evaluations_per_image"] for r in mine], marker="o", label=search)
        accuracy = [100 * r["accuracy"] for r in mine]
        below = [a - 100 * r["ci_low"] for a, r in zip(accuracy, mine, strict=True)]
        above = [100 * r["ci_high"] - a for a, r in zip(accuracy, mine, strict=True)]
        right.errorbar(x, accuracy, yerr=[below, above], marker="o", capsize=3, label=search)
    left.plot(x, x, color="grey", linestyle=":", label="one a class")
    left.set_yscale("log")
    left.set_ylabel("evaluations an image")
    right.set_ylabel("accuracy, %")
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_xlabel("classes")
        axis.grid(alpha=0.3)
    left.legend(fontsize="small")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
