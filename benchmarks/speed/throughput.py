"""Throughput benchmark: the whole command against the bare network and the published procedure.

Writes ``overhead.csv`` and ``OVERHEAD.md``. It measures the evaluations per second of the whole
command, from its first to its last scored batch, against the network alone at the same batch shape;
the share of used rows in its batches; and the images per second of racing against the published
procedure (one image at a time, its own stages, batches of 32) on the same model and images. All of
it runs in one process, the bare network before and after each run of the whole command.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.core.flags import add_data_root, add_report_only, entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, read_rows, record_environment, write_rows
from benchmarks.speed.throughput_report import (
    COLUMNS,
    PUBLISHED_BATCH,
    RATIO,
    WHOLE_COMMAND,
    write_page,
)
from diffcls.data.option_use import root_for

TABLE = "overhead.csv"
RACING = "racing, same images"
PUBLISHED = "published procedure"
SECONDS = 8.0
"""Duration of each measurement of the bare network, in seconds."""


@dataclass
class Meter:
    """Forward passes of a denoiser.

    Args:
        rows: total number of batch rows, padding included.
        first, last: start of the first and end of the last forward pass, in seconds.
        shapes: batch sizes.
    """

    rows: int = 0
    first: float = 0.0
    last: float = 0.0
    shapes: set[int] = field(default_factory=set)


@contextmanager
def metered(denoiser: Any) -> Iterator[Meter]:
    """Count the forward passes of a denoiser in this context."""
    meter, predict = Meter(), denoiser.predict

    def counted(x_t: Any, index: Any, cond: Any) -> Any:
        start = time.perf_counter()
        out = predict(x_t, index, cond)
        meter.first = meter.first or start
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
    """Evaluations per second of the network alone, at one batch shape."""
    import torch

    denoiser, cond = method.denoiser, method.scorer.cond
    prompts = torch.arange(batch) % cond.count
    rows = cond.rows(prompts.to(denoiser.device))
    x_t = torch.randn(batch, *denoiser.sample_shape, device=denoiser.device, dtype=denoiser.dtype)
    index = torch.arange(batch, device=denoiser.device) % len(denoiser.schedule)
    with torch.inference_mode():
        denoiser.predict(x_t, index, rows)  # warm-up
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            denoiser.predict(x_t, index, rows)
            count += batch
        if denoiser.device.type == "cuda":
            torch.cuda.synchronize()
        return count / (time.perf_counter() - start)


def plan_of(**arguments: Any) -> Any:
    """The plan of an evaluation, with the model loaded."""
    import os

    from diffcls.evaluation.options import read_options
    from diffcls.evaluation.plan import choose_images, make_plan
    from diffcls.runs.sharding import shard_from

    options = read_options(arguments)
    dataset, subset = choose_images(options)
    shard = shard_from(os.environ, options.shard, options.n_workers, options.worker_idx)
    return make_plan("diffusion", options, dataset, subset, shard)


def _main(arguments: list[str]) -> int:
    p = parser("throughput", __doc__)
    add_data_root(p)
    add_report_only(p)
    p.add_argument("--dataset", nargs="+", default=["digits", "fashion_mnist"], metavar="NAME")
    p.add_argument(
        "--images",
        type=int,
        default=1000,
        metavar="N",
        help="scored by the command (1000)",
    )
    p.add_argument(
        "--published",
        type=int,
        default=60,
        metavar="N",
        help="scored by both procedures (60)",
    )
    p.add_argument("--batch-size", type=int, default=64, metavar="N", help="of racing (64)")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        write_rows(output / TABLE, measure(flags), list(COLUMNS), SIX_DIGITS)
        record_environment(output, "throughput")
    write_page(read_rows(output / TABLE), output)
    return 0


main = entry_point(_main)


def measure(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows: per data set, the network, the command, both procedures and their ratio."""
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(flags.threads)
    rows: list[dict[str, Any]] = []
    for name in flags.dataset:
        with denormals_flushed():
            of_dataset = [
                *_command(flags, name, flags.images, WHOLE_COMMAND),
                *_command(flags, name, flags.published, RACING)[1:],
                _published(flags, name),
            ]
        rows += [{**row, "dataset": name} for row in [*of_dataset, _ratio(of_dataset)]]
    return rows


def _command(flags: Any, dataset: str, images: int, what: str) -> list[dict[str, Any]]:
    """Rows of the bare network and of the whole command, which writes its records."""
    import tempfile

    from diffcls.evaluation.run import run

    with tempfile.TemporaryDirectory() as folder:
        plan = plan_of(
            dataset=dataset,
            data_root=root_for(dataset, flags.data_root),
            limit=images,
            batch_size=flags.batch_size,
            output_dir=folder,
            quiet=True,
            check_model=False,
        )
        method = plan.built.method
        before = bare(method, flags.batch_size)
        method.seconds_per_batch = lambda: 0.0  # leave the cost estimate out
        with metered(method.denoiser) as meter:
            row = run(plan)
        after = bare(method, flags.batch_size)
    evaluations = row["evaluations_per_image"] * row["n_scored"]
    seconds = meter.last - meter.first
    if meter.shapes != {flags.batch_size}:
        raise RuntimeError(f"batches of other sizes: {meter.shapes}")
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
    """The row of the published procedure: one image at a time, its stages, unshared batches."""
    plan = plan_of(
        dataset=dataset,
        data_root=root_for(dataset, flags.data_root),
        limit=flags.published,
        search="paper",
        batch_size=PUBLISHED_BATCH,
    )
    method = plan.built.method
    method.encode_batch = 1
    bare(method, PUBLISHED_BATCH, seconds=1.0)  # warm-up, as for racing
    start, evaluations, correct = time.perf_counter(), 0, 0
    for item in plan.dataset.items:
        (answer,) = method.classify([item])
        evaluations += answer.evaluations
        correct += int(answer.ranking[0]) == item.label
    seconds = time.perf_counter() - start
    return {
        "what": PUBLISHED,
        "search": "paper",
        "images": len(plan.dataset),
        "batch": PUBLISHED_BATCH,
        "evaluations": evaluations,
        "seconds": seconds,
        "evaluations_per_second": evaluations / seconds,
        "images_per_second": len(plan.dataset) / seconds,
        "accuracy": correct / len(plan.dataset),
    }


def _ratio(rows: list[dict[str, Any]]) -> dict[str, Any]:
    rate = {row["what"]: row["images_per_second"] for row in rows if "images_per_second" in row}
    return {"what": RATIO, "times": rate[RACING] / rate[PUBLISHED]}
