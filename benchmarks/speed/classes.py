"""``python -m benchmarks.speed.classes``: cost against the number of classes, images and rows a
batch.

Writes ``results/growth.csv``, ``GROWTH.md`` and ``growth.png``. The classes are scenes of one
drawing, as many as one likes (``scenes:N``). Each measurement is a process of its own with one
thread. Its memory is the peak above that of the process with the model loaded and one image scored
among ten classes, an evaluation at a time, so that libraries and kernels are there, and neither a
batch nor a prompt of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.core.flags import said_by
from diffcls.cli import Parser, command
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset

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
    "setup_seconds",
    "memory_mib",
    "recall",
    "lost_to_racing",
    "mcnemar_p_vs_racing",
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.speed.classes", description=__doc__.splitlines()[0])
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
        found = list(pool.map(_in_a_process, wishes))
    write(beside_racing(found), Path(flags.output_dir))
    return 0


def _wishes(classes: Sequence[int], images: int) -> Iterator[dict[str, Any]]:
    for count in classes:
        for search in SEARCHES:
            yield {"what": "classes", "classes": count, "search": search, "images": images}
    for count in (min(classes), max(classes)):
        yield {"what": "memory", "classes": count, "search": "exhaustive", "images": 2}
    for number in MORE_IMAGES:
        yield {"what": "images", "classes": 10, "search": "racing", "images": number}
    for batch in BATCHES:
        yield {"what": "batch", "classes": 10, "search": "racing", "images": 100, "batch": batch}


def _in_a_process(wish: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.speed.classes", "--one", json.dumps(wish)]
    row: dict[str, Any] = json.loads(said_by(command).splitlines()[-1])
    print(json.dumps({k: v for k, v in row.items() if k in COLUMNS}), file=sys.stderr)
    return row


def measure(what: str, classes: int, search: str, images: int, batch: int = 64) -> dict[str, Any]:
    """One row: a search on images of so many classes, in this process.

    Args:
        what: which of the questions it belongs to.
        classes, search, images, batch: what is measured.

    Returns:
        the row, its comparisons with racing left out; and, by image id, ``predicted``, ``labels``,
        and ``raced``, the classes that a screen left to its race, or None without a screen.
    """
    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.data import catalog
    from diffcls.data.load import load_dataset
    from diffcls.data.prompts import PromptSet
    from diffcls.data.subsets import choose
    from diffcls.metrics.statistics import wilson_interval
    from diffcls.models import loading
    from diffcls.search import SEARCHES as KINDS
    from diffcls.search.screening import Screened
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(1)
    denoiser = loading.load("scenes")
    kind = KINDS.load(search)

    def method_on(data: Dataset, batch: int, **options: int) -> DiffusionMethod:
        templates = catalog.find(data.name).templates
        prompts = PromptSet.from_templates(data.class_names, templates, data.prompt_names)
        allocation = denoiser.card.allocation
        return DiffusionMethod(
            denoiser,
            prompts,
            kind(**options),
            batch_size=batch,
            encode_batch=min(batch, 16),
            allocation=allocation,
        )

    few, _ = choose(load_dataset("scenes:10", "test"), 1)
    data, _ = choose(load_dataset(f"scenes:{classes}", "test"), images)
    with denormals_flushed():
        # few enough candidates that a screen has something to do
        screened = {"candidates": 2} if issubclass(kind, Screened) else {}
        list(method_on(few, 1, **screened).classify(few.items))
        loaded = _memory("VmRSS")
        _forget_peak()
        began = time.perf_counter()
        method = method_on(data, batch)
        setup = time.perf_counter() - began
        answers = {answer.image_id: answer for answer in method.classify(data.items)}
        seconds = time.perf_counter() - began - setup
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
        "setup_seconds": setup,
        "memory_mib": peak - loaded,
        "predicted": {i: int(a.ranking[0]) for i, a in answers.items()},
        "raced": {i: None if a.raced is None else a.raced.tolist() for i, a in answers.items()},
        "labels": {item.image_id: item.label for item in data.items},
    }


def beside_racing(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with what they lose to racing among as many classes, image by image.

    ``recall`` is the share of images on which racing's answer is among the classes that a screen
    leaves to its race.

    Args:
        rows: of `measure`.
    """
    from diffcls.metrics.statistics import mcnemar_exact

    races = {row["classes"]: row for row in rows if _compared(row) and row["search"] == "racing"}
    found = []
    for row in rows:
        kept = {name: row.get(name) for name in COLUMNS}
        race = races.get(row["classes"])
        if race is not None and _compared(row):
            answers, labels = race["predicted"], race["labels"]
            mine = [row["predicted"][i] == k for i, k in labels.items()]
            theirs = [answers[i] == k for i, k in labels.items()]
            left = [row["raced"][i] is None or k in row["raced"][i] for i, k in answers.items()]
            kept["recall"] = sum(left) / len(left)
            kept["lost_to_racing"] = (sum(theirs) - sum(mine)) / len(mine)
            kept["mcnemar_p_vs_racing"] = mcnemar_exact(mine, theirs)
        found.append(kept)
    return found


def _compared(row: dict[str, Any]) -> bool:
    return bool(row["what"] == "classes")


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

    from diffcls.support.environment import describe_device, set_threads, versions
    from diffcls.support.files import write_text

    set_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    write_text(output / "growth.csv", frame.to_csv(index=False, float_format="%.6g"))
    lines = [
        "# Cost against the number of classes, images, and rows a batch",
        "",
        "Written by `python -m benchmarks.speed.classes`: scenes of one drawing, one thread a "
        "process; "
        f"{describe_device('cpu')}, {versions()}. A backward pass counts as two evaluations, a "
        "slope therefore as three. Memory is the peak above the loaded model, its libraries and "
        "kernels included; set-up is the encoding of the prompts. Recall is the share of images "
        "on which racing's answer is among the classes that a screen leaves to its race.",
        "",
        "![evaluations and accuracy against the number of classes](growth.png)",
        "",
        "| what grows | classes | search | images | rows a batch | accuracy | 95 % interval | "
        "evaluations an image | images/s | evaluations/s | set-up, s | memory, MiB | recall | "
        "loses to racing | p |",
        "|" + "---|" * 15,
    ]
    lines += [
        f"| {r['what']} | {r['classes']:,} | {r['search']} | {r['images']} | {r['batch']} | "
        f"{r['accuracy']:.1%} | {r['ci_low']:.1%} to {r['ci_high']:.1%} | "
        f"{r['evaluations_per_image']:,.1f} | {r['images_per_second']:.2f} | "
        f"{r['evaluations_per_second']:,.0f} | {r['setup_seconds']:.1f} | {r['memory_mib']:.0f} | "
        f"{_beside(r)} |"
        for r in rows
    ]
    lines += ["", *_ratios(rows)]
    write_text(output / "GROWTH.md", "\n".join([*lines, ""]))
    draw([row for row in rows if row["what"] == "classes"], output / "growth.png")


def _beside(row: dict[str, Any]) -> str:
    if row["recall"] is None:
        return " | | "
    lost, p = row["lost_to_racing"], row["mcnemar_p_vs_racing"]
    return f"{row['recall']:.1%} | {lost:+.1%} | {p:.3f}"


def _ratios(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What the most classes cost, in those of fewer."""
    of = {(r["search"], r["classes"]): r for r in rows if r["what"] in ("classes", "memory")}
    counts = sorted({classes for _, classes in of})
    for search in dict.fromkeys(search for search, _ in of):
        most, least = of[search, counts[-1]], of[search, counts[0]]
        says = f"{most['memory_mib'] / least['memory_mib']:.2f} times the memory of {counts[0]:,}"
        if (search, 100) in of:
            times = most["evaluations_per_image"] / of[search, 100]["evaluations_per_image"]
            says += f" and {times:.1f} times the evaluations of 100"
        yield f"- `{search}`: {counts[-1]:,} classes take {says}."


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
