"""``python -m benchmarks.speed.throughput``: the whole command, the bare network, the published
script.

Writes ``results/overhead.csv`` and ``results/OVERHEAD.md``. Three questions: how many evaluations a
second the whole command makes from its first to its last scored batch, against the network alone
at the same batch shape; how full its batches are; and how many images a second racing scores, side
by side with the published procedure (one image at a time, its own stages, batches of 32) on the
same model and images. Everything runs in one process on one machine, the bare network before and
after each run of the whole command. Targets that are met or missed are named as such.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffcls.cli import Parser, command

PUBLISHED_BATCH = 32
ENOUGH = 30_000
"""Evaluations from which on the last batches, which are not full, weigh little."""
TIMES = "images a second, times the published procedure"
SECONDS = 8.0
"""Time that the bare network is measured for, before and after."""


@dataclass
class Meter:
    """What a denoiser was asked to do.

    Args:
        rows: of all forwards, padding included.
        first, last: when the first forward began and the last one ended.
    """

    rows: int = 0
    first: float = 0.0
    last: float = 0.0
    shapes: set[int] = field(default_factory=set)


@contextmanager
def metered(denoiser: Any) -> Iterator[Meter]:
    """Count the forwards of a denoiser for a while."""
    meter, predict = Meter(), denoiser.predict

    def counted(x_t: Any, index: Any, cond: Any) -> Any:
        began = time.perf_counter()
        out = predict(x_t, index, cond)
        meter.first = meter.first or began
        meter.last = time.perf_counter()
        meter.rows += len(x_t)
        meter.shapes.add(len(x_t))
        return out

    denoiser.predict = counted
    try:
        yield meter
    finally:
        del denoiser.predict


def bare(method: Any, batch: int, seconds: float = SECONDS) -> float:
    """Evaluations a second of the network alone, at one batch shape."""
    import torch

    denoiser, cond = method.denoiser, method.scorer.cond
    prompts = torch.arange(batch) % cond.count
    rows = cond.rows(prompts.to(denoiser.device))
    x_t = torch.randn(batch, *denoiser.sample_shape, device=denoiser.device, dtype=denoiser.dtype)
    index = torch.arange(batch, device=denoiser.device) % len(denoiser.schedule)
    with torch.inference_mode():
        denoiser.predict(x_t, index, rows)  # warms up
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            denoiser.predict(x_t, index, rows)
            count += batch
        if denoiser.device.type == "cuda":
            torch.cuda.synchronize()
        return count / (time.perf_counter() - began)


def plan_of(**wishes: Any) -> Any:
    """The plan of an evaluation, its model loaded."""
    import os

    from diffcls.evaluation.options import read_options
    from diffcls.evaluation.plan import choose_images, make_plan
    from diffcls.runs.sharding import shard_from

    options = read_options(wishes)
    dataset, subset = choose_images(options)
    shard = shard_from(os.environ, options.shard, options.n_workers, options.worker_idx)
    return make_plan("diffusion", options, dataset, subset, shard)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.speed.throughput", description=__doc__.splitlines()[0])
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--data-root", metavar="DIR", help="where local data lie")
    p.add_argument("--dataset", nargs="+", default=["digits", "fashion_mnist"], metavar="NAME")
    p.add_argument("--images", type=int, default=1000, metavar="N", help="scored by racing (1000)")
    p.add_argument("--published", type=int, default=60, metavar="N", help="scored by both (60)")
    p.add_argument("--batch-size", type=int, default=64, metavar="N", help="of racing (64)")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    flags = p.parse_args(arguments)

    from diffcls.support.environment import describe_device, set_threads, versions

    set_threads(flags.threads)
    from diffcls.support.environment import denormals_flushed

    rows: list[dict[str, Any]] = []
    for name in flags.dataset:
        with denormals_flushed():
            of = [
                *_command(flags, name, flags.images, "whole command"),
                *_command(flags, name, flags.published, "racing, the same images")[1:],
                _published(flags, name),
            ]
        rows += [{**row, "dataset": name} for row in [*of, _ratio(of)]]
    where = f"{describe_device('cpu')}, {versions()}"
    write(rows, where, Path(flags.output_dir))
    return 0


def _command(flags: Any, dataset: str, images: int, what: str) -> list[dict[str, Any]]:
    """The bare network, and the whole command, records and all."""
    import tempfile

    from diffcls.evaluation.run import run

    with tempfile.TemporaryDirectory() as folder:
        plan = plan_of(
            dataset=dataset,
            data_root=flags.data_root,
            limit=images,
            batch_size=flags.batch_size,
            output_dir=folder,
            quiet=True,
            check_model=False,
        )
        method = plan.built.method
        before = bare(method, flags.batch_size)
        method.seconds_a_batch = lambda: 0.0  # the estimate of cost is no part of the work
        with metered(method.denoiser) as meter:
            row = run(plan)
        after = bare(method, flags.batch_size)
    evaluations = row["evaluations_per_image"] * row["n_scored"]
    seconds = meter.last - meter.first
    assert meter.shapes == {flags.batch_size}
    common = {"search": "racing", "images": row["n_scored"], "batch": flags.batch_size}
    return [
        {"what": "bare network", **common, "evaluations_per_second": (before + after) / 2},
        {
            "what": what,
            **common,
            "evaluations": evaluations,
            "seconds": seconds,
            "evaluations_per_second": evaluations / seconds,
            "images_per_second": row["n_scored"] / seconds,
            "batches_full": evaluations / meter.rows,
            "of_bare_network": evaluations / seconds / ((before + after) / 2),
            "accuracy": row["accuracy"],
        },
    ]


def _published(flags: Any, dataset: str) -> dict[str, Any]:
    """The published procedure: image after image, its stages, batches that are never shared."""
    plan = plan_of(
        dataset=dataset,
        data_root=flags.data_root,
        limit=flags.published,
        search="paper",
        batch_size=PUBLISHED_BATCH,
    )
    method = plan.built.method
    method.encode_batch = 1
    bare(method, PUBLISHED_BATCH, seconds=1.0)  # warms up, as racing was
    began, evaluations, right = time.perf_counter(), 0, 0
    for item in plan.dataset.items:
        (answer,) = method.classify([item])
        evaluations += answer.evaluations
        right += int(answer.ranking[0]) == item.label
    seconds = time.perf_counter() - began
    return {
        "what": "published procedure",
        "search": "paper",
        "images": len(plan.dataset),
        "batch": PUBLISHED_BATCH,
        "evaluations": evaluations,
        "seconds": seconds,
        "evaluations_per_second": evaluations / seconds,
        "images_per_second": len(plan.dataset) / seconds,
        "accuracy": right / len(plan.dataset),
    }


def _ratio(rows: list[dict[str, Any]]) -> dict[str, Any]:
    of = {row["what"]: row for row in rows}
    mine, theirs = of["racing, the same images"], of["published procedure"]
    times = mine["images_per_second"] / theirs["images_per_second"]
    return {"what": TIMES, "times": times}


def _targets(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What was aimed at, and whether it was met."""
    aims = (
        ("of_bare_network", 0.9, "of the bare network's evaluations/s, {:.0%} at least"),
        ("batches_full", 0.95, "of the batches' rows in use, {:.0%} at least"),
        ("times", 40, "the images/s of the published procedure, {:.0f}× at least"),
    )
    for row in rows:
        if row["what"] not in ("whole command", TIMES):
            continue
        few = row.get("evaluations", ENOUGH) < ENOUGH
        for name, aim, says in aims:
            if row.get(name) is not None:
                met = "met" if row[name] >= aim else "missed"
                of_few = f", of fewer than {ENOUGH:,} evaluations" * few
                shown = COLUMNS[name](row[name])
                yield f"- {row['dataset']}: {shown} {says.format(aim)}: {met}{of_few}."


COLUMNS: dict[str, Callable[[Any], str]] = {
    "dataset": str,
    "what": str,
    "search": str,
    "images": "{:,.0f}".format,
    "batch": "{:.0f}".format,
    "evaluations": "{:,.0f}".format,
    "seconds": "{:.1f}".format,
    "evaluations_per_second": "{:,.0f}".format,
    "images_per_second": "{:.3g}".format,
    "batches_full": "{:.1%}".format,
    "of_bare_network": "{:.1%}".format,
    "times": "{:.1f}×".format,
    "accuracy": "{:.1%}".format,
}


def write(rows: list[dict[str, Any]], where: str, output: Path) -> None:
    """The table as CSV and as a page."""
    import pandas as pd

    from diffcls.support.files import write_text

    output.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    write_text(output / "overhead.csv", frame.to_csv(index=False, float_format="%.6g"))
    lines = [
        "# The whole command against the bare network and the published procedure",
        "",
        "Written by `python -m benchmarks.speed.throughput`, "
        f"on {where}. Seconds are from the first to the last scored batch of the whole command, "
        "and from the first image opened to the last one answered of the published procedure, "
        f"which scores image after image in batches of {PUBLISHED_BATCH} that are never shared "
        "(rows of theirs that are free work on what comes next, as everywhere here: it is no "
        "slower for being run by this package). Batches are full as far as their rows were asked "
        "for in the end.",
        "",
        "| " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for row in rows:
        cells = [show(row[n]) if row.get(n) is not None else "" for n, show in COLUMNS.items()]
        lines.append("| " + " | ".join(cells) + " |")
    text = "\n".join([*lines, "", *_targets(rows), ""])
    write_text(output / "OVERHEAD.md", text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
