"""Accelerator benchmark: evaluations per second and share of the peak, change by change.

Networks of the size of Stable Diffusion 2-base, SDXL and Stable Diffusion 3.5 medium with random
weights (no download) are run as the evaluate command runs them. Each change is measured on top of
those kept before it, and kept if it is faster and the answers are the same. Then come the whole
command, and the published procedure beside it. The most important measurements take place within a
time budget, and each row is written as soon as it is measured. Writes ``gpu-DEVICE.csv`` and
``GPU.md``. With ``--tiny`` small networks of the same classes run everything on a CPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, write_rows
from benchmarks.speed.gpu_changes import BASELINE, CHANGES, NetworkBench
from benchmarks.speed.gpu_command import PUBLISHED, WHOLE, CommandBench
from benchmarks.speed.gpu_network import SD_2, SIZES, Size, tiny
from benchmarks.speed.gpu_plan import Row, Step, run_steps
from benchmarks.speed.gpu_report import COLUMNS, PEAK, write_page
from benchmarks.speed.gpu_timing import data_sheet_peak, free_memory, matrix_peak
from diffcls.support.errors import UsageError

MINUTES = 7.5
MATRIX_SIDE, TINY_MATRIX_SIDE = 8192, 256
COMMAND_BATCH, COMMAND_IMAGES = 64, 40
LARGER_BATCHES = (64, 128)


def _main(arguments: list[str]) -> int:
    p = parser("gpu", __doc__)
    p.add_argument("--device", default="cuda", metavar="D", help="cuda (default), cuda:N or cpu")
    p.add_argument(
        "--minutes",
        type=float,
        default=MINUTES,
        metavar="M",
        help=f"time budget; what matters less is left out ({MINUTES:g})",
    )
    p.add_argument("--seconds", type=float, default=3.0, metavar="S", help="per timing (3)")
    p.add_argument("--tiny", action="store_true", help="small networks, for a trial")
    add_report_only(p)
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        _check(flags.device, flags.minutes, flags.seconds)
        rows = []
        for row in measure(flags.device, flags.minutes * 60, flags.seconds, flags.tiny):
            rows.append(row)
            path = write(rows, output)  # after each row: a lent device may be taken back
            print({name: v for name, v in row.items() if v not in (None, "")}, flush=True)
        print(path)
    write_page(output)
    return 0


main = entry_point(_main)


def _check(device: str, minutes: float, seconds: float) -> None:
    import torch

    for flag, value in (("--minutes", minutes), ("--seconds", seconds)):
        if not 0 < value < 1e6:
            raise UsageError(f"{flag} out of range", given=value, allowed="a number above 0")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            "--device needs CUDA, which is not available",
            given=device,
            allowed="--device cpu --tiny",
        )


def measure(
    device: str, budget: float, seconds: float, is_tiny: bool = False, sizes: Sequence[Size] = SIZES
) -> Iterator[Row]:
    """All rows, each as soon as it is measured.

    Args:
        device: torch's name of the device.
        budget: time for all of them in seconds.
        seconds: duration of each timing.
        is_tiny: whether small networks are measured.
        sizes: the networks, the most important first.
    """
    import torch

    from diffcls.support.environment import describe_device

    name = describe_device(device)
    peaks: dict[str, float | None] = {"measured": None, "data_sheet": data_sheet_peak(name)}
    for row in run_steps(list(_steps(device, seconds, is_tiny, sizes)), budget):
        if row["measure"] == PEAK and "tflops" in row:
            peaks["measured"] = row["tflops"]
        shares = {
            f"share_of_{kind}_peak": row["tflops"] / peak
            for kind, peak in peaks.items()
            if peak and "tflops" in row
        }
        yield {"device": name, "torch": torch.__version__, **row, **shares}


def _steps(device: str, seconds: float, is_tiny: bool, sizes: Sequence[Size]) -> Iterator[Step]:
    """All measurements in order of execution."""
    scale = 0.0 if is_tiny else 1.0  # of the expected times
    holder = _Holder(device)
    side = TINY_MATRIX_SIDE if is_tiny else MATRIX_SIDE
    yield Step("", PEAK, 0, 5 * scale, partial(_peak, device, side, min(seconds, 2.0)))
    for order, full in enumerate(sizes):
        size = tiny(full) if is_tiny else full
        bench = partial(holder.get, partial(NetworkBench, size, device, seconds))
        yield from _network_steps(size, bench, order, scale, seconds)
        if full is SD_2:
            yield from _command_steps(size, holder, device, seconds, scale)
    size = tiny(sizes[0]) if is_tiny else sizes[0]
    bench = partial(holder.get, partial(NetworkBench, size, device, seconds))
    for batch in LARGER_BATCHES if not is_tiny else (2 * size.batch,):
        run = partial(_call, bench, "larger_batch", batch)
        yield Step(size.name, f"larger batch: {batch}", 6, 15 * scale, run)


def _network_steps(
    size: Size, bench: Callable[[], Any], order: int, scale: float, seconds: float
) -> Iterator[Step]:
    importance = 1 if order == 0 else 3
    each = (seconds + 4) * scale
    run = partial(_call, bench, "baseline")
    yield Step(size.name, BASELINE, importance, each + 15 * scale, run)
    for change in CHANGES:
        late = 1 if change.is_final else 0  # compilation is long, and its gain is known best
        expected = each + (size.compile_seconds if change.compiles else 0)
        run = partial(_call, bench, "change", change)
        level = importance + (3 if order == 0 else 2) * late
        yield Step(size.name, change.name, level, expected, run)


def _command_steps(
    size: Size, holder: _Holder, device: str, seconds: float, scale: float
) -> Iterator[Step]:
    is_tiny = not scale
    batch, images = (size.batch, 4) if is_tiny else (COMMAND_BATCH, COMMAND_IMAGES)
    make = partial(CommandBench, size, device, seconds, batch, images)
    bench = partial(holder.get, make)
    yield Step(size.name, WHOLE, 2, 75 * scale, partial(_call, bench, "whole"))
    run = partial(_call, bench, "published", size.batch if is_tiny else 32)
    yield Step(size.name, PUBLISHED, 2, 35 * scale, run)


def _peak(device: str, side: int, seconds: float) -> Iterator[Row]:
    peak = matrix_peak(device, side, seconds)
    yield {"dtype": "bfloat16", "batch": side, "tflops": peak}


def _call(bench: Callable[[], Any], name: str, *arguments: Any) -> Iterator[Row]:
    yield from getattr(bench(), name)(*arguments)


class _Holder:
    """The one network that is in memory: the one before it is dropped first."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._key: Any = None
        self._held: Any = None

    def get(self, make: partial[Any]) -> Any:
        """What `make` makes, kept until another one is requested."""
        key = (make.func, make.args)
        if key != self._key:
            self._held = None
            free_memory(self.device)
            self._held, self._key = make(), key
        return self._held


def write(rows: list[Row], output: Path) -> Path:
    """Write the table, which is named after the device; returns its path."""
    name = re.sub(r"\W+", "-", str(rows[0]["device"])).strip("-").lower()
    path = output / f"gpu-{name}.csv"
    write_rows(path, rows, list(COLUMNS), SIX_DIGITS)
    return path
