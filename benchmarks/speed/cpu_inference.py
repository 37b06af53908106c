"""``python -m benchmarks.speed.cpu_inference``: what makes a forward faster on a CPU, and what
does not.

Writes ``results/kernels.csv`` and ``KERNELS.md``. Measures take turns, round after round, so that
what else the machine does falls on all of them alike; what is kept stands in the table's last
column.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.cli import Parser, command

BATCH = 64
COLUMNS = (
    *("measure", "evaluations_per_second", "against_baseline", "quarter_below", "quarter_above"),
    "kept",
)


@dataclass(frozen=True)
class Variant:
    """One way to run the same forward.

    Args:
        name: what differs from the baseline, which is how the scorer runs it.
        call: one forward of the batch.
        around: what holds while it runs.
        against: what speaks against it even where it is faster.
    """

    name: str
    call: Callable[[], Any]
    around: Callable[[], AbstractContextManager[Any]]
    against: str = ""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.speed.cpu_inference", description=__doc__.splitlines()[0])
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--model", default="fashion_mnist", metavar="NAME", help="(fashion_mnist)")
    p.add_argument("--rounds", type=int, default=30, metavar="N", help="of each measure (30)")
    p.add_argument("--compile", action="store_true", help="also torch.compile: half a minute")
    flags = p.parse_args(arguments)

    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(1)
    with denormals_flushed():
        rows = measure(variants(flags.model, flags.compile), flags.rounds)
    write(rows, flags.model, Path(flags.output_dir))
    return 0


def variants(model: str, compiled: bool) -> list[Variant]:
    """All measures, the baseline first."""
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
        text = cond["text"]  # past the adapter, which lays its images out anew
        return other_layout.network(x_t, index.float(), encoder_hidden_states=text).sample

    with torch.inference_mode():
        known = _keys_known(denoiser, cond["text"])
    inference: Callable[[], AbstractContextManager[Any]] = torch.inference_mode
    found = [
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
            "prompts' keys and values known beforehand",
            forward(known),
            inference,
            "prompts of the batch change with every batch, so they would have to be looked up",
        ),
    ]
    if compiled:
        fast = copy.copy(denoiser)
        fast.network = torch.compile(denoiser.network, dynamic=False)
        why = "half a minute of compiling, and a compiler"
        found.append(Variant("torch.compile, static shapes", forward(fast), inference, why))
    found += _with_more_threads(forward())
    return found


def _with_more_threads(call: Callable[[], Any]) -> list[Variant]:
    """The same on all cores, where there is more than one."""
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
    from contextlib import ExitStack

    stack = ExitStack()
    for context in contexts:
        stack.enter_context(context)
    return stack


def _keys_known(denoiser: Any, text: Any) -> Any:
    """A copy whose cross-attention finds the batch's keys and values ready: the most to be won."""
    import torch

    class Known(torch.nn.Module):
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
                setattr(module, name, Known(getattr(module, name)(text)))
    return known


def measure(found: list[Variant], rounds: int) -> list[dict[str, Any]]:
    """A row each: the median over rounds in which all take turns."""
    import statistics

    import numpy as np

    times: dict[str, list[float]] = {variant.name: [] for variant in found}
    for number in range(rounds + 1):
        for variant in found:
            with variant.around():
                began = time.perf_counter()
                variant.call()
                if number:  # the first one warms up
                    times[variant.name].append(time.perf_counter() - began)
    baseline = np.array(times[found[0].name])
    rows = []
    for variant in found:
        # of the same round, so that what else the machine did falls on either
        low, middle, high = np.quantile(baseline / np.array(times[variant.name]), (0.25, 0.5, 0.75))
        rows.append(
            {
                "measure": variant.name,
                "evaluations_per_second": BATCH / statistics.median(times[variant.name]),
                "against_baseline": middle,
                "quarter_below": low,
                "quarter_above": high,
                "kept": "in use" if variant is found[0] else _verdict(variant, low),
            }
        )
    return rows


def _verdict(variant: Variant, low: float) -> str:
    """Faster in three rounds of four, or not; and what speaks against it then."""
    if low <= 1:
        return "no"
    return f"faster, not in use: {variant.against}" if variant.against else "faster: to be used"


def write(rows: list[dict[str, Any]], model: str, output: Path) -> None:
    """The table as CSV and as a page."""
    import pandas as pd

    from diffcls.support.environment import describe_device, versions
    from diffcls.support.files import write_text

    output.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    write_text(output / "kernels.csv", frame.to_csv(index=False, float_format="%.6g"))
    lines = [
        "# What makes a forward faster on a CPU",
        "",
        f"Written by `python -m benchmarks.speed.cpu_inference`: the model {model}, {BATCH} rows a "
        "batch, "
        "median over rounds in which all measures take turns, with the quarters of the rounds "
        "below and above; "
        f"{describe_device('cpu')}, {versions()}.",
        "",
        "| measure | evaluations/s | against the baseline | kept |",
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


if __name__ == "__main__":
    sys.exit(main())
