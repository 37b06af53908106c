"""Cheaper evaluations: shared layers, cached keys and values, half the side, threads, compiling.

Writes ``cheaper.csv`` and ``CHEAPER.md``. Each way to make an evaluation cheaper is measured
against evaluations without it, in the CPU time of one process in which both take turns, so that
other load on the machine affects both alike. Operations are counted by torch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.core.flags import add_data_root, add_report_only, entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, read_rows, record_environment, write_rows
from benchmarks.speed.cheaper_report import COLUMNS, write_page
from benchmarks.speed.cpu_inference import BATCH
from benchmarks.speed.half_side import half_side
from benchmarks.speed.operations import operations
from benchmarks.speed.throughput import plan_of
from diffcls.data.option_use import root_for

TABLE = "cheaper.csv"
DATASETS = {"digits": 32, "cifar10": 24, "scenes/attributes": 8, "scenes:1000": 1}
"""Data set -> images of a block."""
BLOCKS = 5
PARTS = ("operations", "race", "pass", "half_side")


def _main(arguments: list[str]) -> int:
    p = parser("cheaper_evaluations", __doc__)
    add_data_root(p)
    add_report_only(p)
    p.add_argument("--part", nargs="+", default=PARTS, choices=PARTS, help="what to measure (all)")
    p.add_argument("--dataset", nargs="+", default=list(DATASETS), metavar="NAME")
    p.add_argument("--model", nargs="+", default=["digits", "scenes"], metavar="NAME")
    p.add_argument("--rounds", type=int, default=20, metavar="N", help="of single passes (20)")
    p.add_argument("--blocks", type=int, default=BLOCKS, metavar="N", help=f"of images ({BLOCKS})")
    p.add_argument("--images", type=int, metavar="N", help="of a block (by data set)")
    p.add_argument("--compile", action="store_true", help="also torch.compile (half a minute each)")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        from diffcls.support.environment import denormals_flushed, set_threads

        set_threads(1)
        with denormals_flushed():
            measured = [rows for part in flags.part for rows in _put_all(part, flags, output)]
        all_rows = len(read_rows(output / TABLE))
        kept = all_rows > sum(map(len, measured))
        record_environment(output, "cheaper_evaluations", keeps_rows=kept)
    write_page(read_rows(output / TABLE), output)
    return 0


main = entry_point(_main)


def _put_all(part: str, flags: argparse.Namespace, output: Path) -> Iterator[list[dict[str, Any]]]:
    """Measure a part, and put its rows into the table as soon as they are there."""
    for rows in MEASURES[part](flags):
        _put(output / TABLE, rows)
        yield rows


def _put(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows into the table, in place of those of the same part and subject."""
    replaced = {(row["part"], row["subject"]) for row in rows}
    kept = read_rows(path) if path.exists() else []
    rows = [row for row in kept if (row["part"], row["subject"]) not in replaced] + rows
    rows.sort(key=lambda row: PARTS.index(row["part"]))
    write_rows(path, rows, COLUMNS, SIX_DIGITS)


def race(
    dataset: str, data_root: str | None, blocks: int, images: int | None = None
) -> dict[str, Any]:
    """Racing with and without shared layers, on the same images; the scores are equal.

    Raises:
        AssertionError: if a score differs in a single bit.
    """
    size = DATASETS.get(dataset, 8) if images is None else images
    plan = plan_of(
        dataset=dataset,
        data_root=root_for(dataset, data_root),
        limit=size * (blocks + 1),
        batch_size=BATCH,
        quiet=True,
        check_model=False,
    )
    method = plan.built.method
    ratios, milliseconds, evaluations = [], [], 0
    for block in range(blocks + 1):
        items = plan.dataset.items[block * size : (block + 1) * size]
        seconds, scores = {}, {}
        for shared in (False, True) if block % 2 else (True, False):
            method.scorer.share_prefix = shared
            start = time.process_time()
            answers = sorted(method.classify(items), key=lambda answer: answer.image_id)
            seconds[shared] = time.process_time() - start
            scores[shared] = [(a.image_id, a.scores.tolist(), a.evaluations) for a in answers]
        if repr(scores[True]) != repr(scores[False]):
            raise RuntimeError("the scores with shared layers differ")
        if block:  # the first one warms up, and looks for the layers
            count = sum(answer.evaluations for answer in answers)
            evaluations += count
            ratios.append(seconds[False] / seconds[True])
            milliseconds.append(1000 * seconds[False] / count)
    return {
        "part": "race",
        "subject": dataset,
        "measure": "layers before the prompt shared",
        "evaluations_per_image": evaluations / (size * blocks),
        "milliseconds": statistics.median(milliseconds),
        **_quartiles(ratios),
    }


def passes(model: str, rounds: int, compiled: bool) -> list[dict[str, Any]]:
    """Single forward passes of a batch: cached keys and values, two threads, compiled."""
    import copy

    import torch

    from diffcls.models import loading

    denoiser: Any = loading.load(model)
    texts = [f"a photo of a {name}." for name in ("one", "two", "cat", "dog", "red", "blue", "cup")]
    cond = denoiser.encode_prompts(texts)
    prompts = torch.arange(BATCH) % len(texts)
    rows = cond.rows(prompts)
    g = torch.Generator().manual_seed(0)
    x_t = torch.randn(BATCH, *denoiser.sample_shape, generator=g)
    index = torch.arange(BATCH) * 15

    def plain() -> Any:
        return denoiser.predict(x_t, index, rows)

    threads = torch.get_num_threads()

    def two_threads() -> Any:
        torch.set_num_threads(2)
        try:
            return plain()
        finally:
            torch.set_num_threads(threads)

    variants: dict[str, Callable[[], Any]] = {"plain": plain}
    with torch.inference_mode():
        variants["keys and values of the prompts cached"] = _with_cached_keys(
            denoiser, cond["text"], prompts, plain
        )
        variants["2 threads"] = two_threads
        if compiled:
            fast = copy.copy(denoiser)
            fast.network = torch.compile(denoiser.network, dynamic=False)
            variants["compiled"] = lambda: fast.predict(x_t, index, rows)
        cpu: dict[str, list[float]] = {name: [] for name in variants}
        wall: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(rounds + 1):
            for name, call in variants.items():
                start, started = time.process_time(), time.perf_counter()
                call()
                if number:  # the first round is warm-up, and compiles
                    cpu[name].append(time.process_time() - start)
                    wall[name].append(time.perf_counter() - started)
                elif name == "compiled":
                    first = time.process_time() - start
    return [
        {
            "part": "pass",
            "subject": model,
            "measure": name,
            "milliseconds": 1000 * statistics.median(cpu["plain"]) / BATCH,
            "wall": _ratio(wall["plain"], wall[name]),
            "seconds_before": first if name == "compiled" else None,
            **_quartiles([a / b for a, b in zip(cpu["plain"], cpu[name], strict=True)]),
        }
        for name in variants
        if name != "plain"
    ]


def _with_cached_keys(
    denoiser: Any, text: Any, prompts: Any, call: Callable[[], Any]
) -> Callable[[], Any]:
    """The same pass, with keys and values of all prompts computed before and looked up by row.

    Raises:
        AssertionError: if they change a single bit of the output.
    """
    import torch

    layers = [
        getattr(module, name)
        for module in denoiser.network.modules()
        if getattr(module, "is_cross_attention", False)
        for name in ("to_k", "to_v")
    ]
    # in a pass of a batch's shape
    padded = text[torch.arange(BATCH).clamp(max=len(text) - 1)]
    known = [layer(padded)[: len(text)] for layer in layers]

    @contextmanager
    def replaced() -> Iterator[None]:
        for layer, rows in zip(layers, known, strict=True):
            layer.forward = lambda _, rows=rows: rows.index_select(0, prompts)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward

    def cached() -> Any:
        with replaced():
            return call()

    if not torch.equal(cached(), call()):
        raise RuntimeError("the outputs with cached layers differ")
    return cached


def _quartiles(ratios: list[float]) -> dict[str, float]:
    """Median and quartiles of how many times cheaper, over blocks or rounds."""
    import numpy as np

    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
    return {"times_cheaper": middle, "quarter_below": low, "quarter_above": high}


def _ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


MEASURES: dict[str, Callable[[argparse.Namespace], Iterator[list[dict[str, Any]]]]] = {
    "operations": lambda _: iter([operations()]),
    "race": lambda flags: (
        [race(name, flags.data_root, flags.blocks, flags.images)] for name in flags.dataset
    ),
    "pass": lambda flags: (passes(name, flags.rounds, flags.compile) for name in flags.model),
    "half_side": lambda flags: (half_side(name, flags.data_root) for name in flags.dataset),
}
