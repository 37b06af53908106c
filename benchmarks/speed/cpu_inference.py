"""CPU inference benchmark: optimisations of one forward pass.

Writes ``kernels.csv`` and ``KERNELS.md``. The variants take turns in every round, so that other
load affects all of them alike; the last column says which ones are in use.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import (
    SIX_DIGITS,
    environment_of,
    read_rows,
    record_environment,
    write_rows,
)
from diffcls.support.files import write_text

BATCH = 64
TABLE = "kernels.csv"
COLUMNS = (
    *("measure", "evaluations_per_second", "against_baseline", "quarter_below", "quarter_above"),
    "kept",
)


@dataclass(frozen=True)
class Variant:
    """One way to run the same forward pass.

    Args:
        name: the difference from the baseline, which is how the scorer runs it.
        call: one forward pass of the batch.
        context: context in which it runs.
        objection: reason not to use it even if it is faster.
    """

    name: str
    call: Callable[[], Any]
    context: Callable[[], AbstractContextManager[Any]]
    objection: str = ""


def _main(arguments: list[str]) -> int:
    p = parser("cpu_inference", __doc__)
    add_report_only(p)
    p.add_argument("--model", default="fashion_mnist", metavar="NAME", help="(fashion_mnist)")
    p.add_argument("--rounds", type=int, default=30, metavar="N", help="rounds of measurement (30)")
    p.add_argument("--compile", action="store_true", help="also torch.compile (half a minute)")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        from diffcls.support.environment import denormals_flushed, set_threads

        set_threads(1)
        with denormals_flushed():
            rows = measure(variants(flags.model, flags.compile), flags.rounds)
        write_rows(output / TABLE, rows, COLUMNS, SIX_DIGITS)
        record_environment(output, "cpu_inference", model=flags.model)
    write_page(read_rows(output / TABLE), output)
    return 0


main = entry_point(_main)


def variants(model: str, compiled: bool) -> list[Variant]:
    """All variants, the baseline first."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from diffcls.models import loading

    denoiser: Any = loading.load(model)
    prompts = [f"a photo of a {name}." for name in ("shirt", "coat", "bag", "dress", "sandal")]
    cond = denoiser.encode_prompts(prompts).rows(torch.arange(BATCH) % len(prompts))
    g = torch.Generator().manual_seed(0)
    x_t = torch.randn(BATCH, *denoiser.sample_shape, generator=g)
    index = torch.arange(BATCH) * 15

    def forward(of: Any = denoiser, x: Any = x_t) -> Callable[[], Any]:
        return lambda: of.predict(x, index, cond)

    other_layout = copy.copy(denoiser)
    other_layout.network = copy.deepcopy(denoiser.network).to(memory_format=torch.contiguous_format)

    def contiguous() -> Any:
        text = cond["text"]  # not through the adapter, which converts the memory layout
        return other_layout.network(x_t, index.float(), encoder_hidden_states=text).sample

    with torch.inference_mode():
        precomputed = _with_precomputed_keys(denoiser, cond["text"])
    inference: Callable[[], AbstractContextManager[Any]] = torch.inference_mode
    all_variants = [
        Variant("baseline: one thread, channels last, inference mode", forward(), inference),
        Variant("channels first", contiguous, inference),
        Variant("no_grad in place of inference mode", forward(), torch.no_grad),
        Variant("gradients recorded", forward(), nullcontext),
        Variant(
            "attention without the fused kernel",
            forward(),
            lambda: _both(torch.inference_mode(), sdpa_kernel(SDPBackend.MATH)),
        ),
        Variant(
            "precomputed keys and values of the prompts",
            forward(precomputed),
            inference,
            "the prompts change from batch to batch, so each row would need a look-up",
        ),
    ]
    if compiled:
        fast = copy.copy(denoiser)
        fast.network = torch.compile(denoiser.network, dynamic=False)
        why = "it takes half a minute and a compiler"
        all_variants.append(Variant("torch.compile, static shapes", forward(fast), inference, why))
    all_variants += _with_more_threads(forward())
    return all_variants


def _with_more_threads(call: Callable[[], Any]) -> list[Variant]:
    """The baseline on all cores; no variant on a single core."""
    import os

    import torch

    cores = os.cpu_count() or 1

    @contextmanager
    def threads() -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(cores)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)

    why = f"{cores} processes of one thread each share the work (`--shard`)"
    return [Variant(f"{cores} threads", call, threads, why)] if cores > 1 else []


def _both(*contexts: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    stack = ExitStack()
    for context in contexts:
        stack.enter_context(context)
    return stack


def _with_precomputed_keys(denoiser: Any, text: Any) -> Any:
    """A copy with the batch's cross-attention keys and values precomputed: an upper bound."""
    import torch

    class Constant(torch.nn.Module):
        def __init__(self, value: Any) -> None:
            super().__init__()
            self.value = value

        def forward(self, _: Any) -> Any:
            return self.value

    known = copy.copy(denoiser)
    known.network = copy.deepcopy(denoiser.network)
    for module in known.network.modules():
        if getattr(module, "is_cross_attention", False):
            for name in ("to_k", "to_v"):
                setattr(module, name, Constant(getattr(module, name)(text)))
    return known


def measure(all_variants: list[Variant], rounds: int) -> list[dict[str, Any]]:
    """One row per variant: the median over rounds in which all of them take turns."""
    import statistics

    import numpy as np

    times: dict[str, list[float]] = {variant.name: [] for variant in all_variants}
    for number in range(rounds + 1):
        for variant in all_variants:
            with variant.context():
                start = time.perf_counter()
                variant.call()
                if number:  # the first round is warm-up
                    times[variant.name].append(time.perf_counter() - start)
    baseline = np.array(times[all_variants[0].name])
    rows = []
    for variant in all_variants:
        # ratios within a round, so that other load cancels
        low, middle, high = np.quantile(baseline / np.array(times[variant.name]), (0.25, 0.5, 0.75))
        rows.append(
            {
                "measure": variant.name,
                "evaluations_per_second": BATCH / statistics.median(times[variant.name]),
                "against_baseline": middle,
                "quarter_below": low,
                "quarter_above": high,
                "kept": "in use" if variant is all_variants[0] else _verdict(variant, low),
            }
        )
    return rows


def _verdict(variant: Variant, low: float) -> str:
    """Whether it is faster in three rounds of four, and the objection to it."""
    if low <= 1:
        return "no"
    return (
        f"faster, not used: {variant.objection}" if variant.objection else "faster: should be used"
    )


def write_page(rows: list[dict[str, Any]], output: Path) -> None:
    """Write and print the page.

    Args:
        rows: rows of kernels.csv.
        output: folder of the results, with the environment of the benchmark.
    """
    setup = environment_of(output, "cpu_inference")
    lines = [
        "# CPU inference: optimisations of one forward pass",
        "",
        "Written by `python -m benchmarks.run cpu_inference` from `kernels.csv`: model "
        f"{setup['model']}, batch size {BATCH}, median over rounds in which all variants take "
        f"turns, with the quartiles in brackets; {setup['environment']}.",
        "",
        "| variant | evaluations/s | relative to the baseline | in use |",
        "|---|---|---|---|",
        *(
            f"| {row['measure']} | {row['evaluations_per_second']:,.0f} | "
            f"{row['against_baseline']:.2f}× ({row['quarter_below']:.2f} to "
            f"{row['quarter_above']:.2f}) | {row['kept']} |"
            for row in rows
        ),
        "",
    ]
    text = "\n".join(lines)
    write_text(output / "KERNELS.md", text)
    print(text)
