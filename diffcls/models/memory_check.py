"""Memory check: a model that cannot fit its device is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from diffcls.models import single_file
from diffcls.models.device_memory import free_memory
from diffcls.models.forecast import Forecast, Workload, forecast, readable
from diffcls.models.loading import find
from diffcls.models.memory_options import parse_quantisation
from diffcls.models.model_index import ModelIndex, read_index
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    import torch

MAX_COMBINATIONS = 3
"""Combinations of flags that a refusal names."""
Change = tuple[str, Workload]
"""Flags, and the workload that they give."""


def index_of(name: str, model_config: str | None = None) -> ModelIndex:
    """The index of a model, of which no weights are downloaded or read.

    Args:
        name: see `diffcls.models.loading.find`.
        model_config: for a single file: the name or folder of the model that completes it.

    Raises:
        UsageError, ModelError: see `diffcls.models.loading.find`.
    """
    path = find(name, weights=False).path
    if path.is_file():
        path = find(model_config or single_file.completed_by(path), weights=False).path
    return read_index(path)


def check_memory(of: Forecast) -> None:
    """Refuse a model that needs more memory than its device has free.

    On an accelerator the batch size is halved where memory does not suffice, so there the forecast
    of one row counts.

    Args:
        of: forecast of the model.

    Raises:
        UsageError: with the flags by which it would fit.
    """
    free = _free(of.workload)
    if free is None:
        return
    least = of
    if of.workload.device != "cpu" and of.workload.batch_size > 1:
        least = forecast(of.index, replace(of.workload, batch_size=1))
    if least.peak.size <= free:
        return
    peak, spread = least.peak, of.workload.options.device_map is not None
    place = "all GPUs together" if spread else of.workload.device
    raise UsageError(
        f"--model does not fit on {place}: {peak.name} needs {readable(peak.size)}, "
        f"and {readable(free)} are free",
        todo=remedies(of.index, least.workload, free),
    )


def remedies(index: ModelIndex, work: Workload, free: int) -> str:
    """The flags by which a model would fit, each with the memory that it then needs.

    Single flags where one suffices, else the first combinations that do.
    """
    fitting = []
    for flags, changed in _changes(work):
        size = forecast(index, changed).peak.size
        room = _free(changed) if changed.options.device_map else free
        if room is not None and size <= room:
            fitting.append(f"{flags} ({readable(size)})")
    if fitting:
        return f"add {', or '.join(fitting)}; --no-check-memory tries it nevertheless"
    size = forecast(index, work).peak.size
    for flags, changed in _combinations(work):
        needed = forecast(index, changed).peak.size
        size = min(size, needed)
        if needed <= free:
            fitting.append(f"{flags} ({readable(needed)})")
        if len(fitting) == MAX_COMBINATIONS:
            break
    if fitting:
        return f"add {', or '.join(fitting)}"
    return f"choose a device with {readable(size)} free, or a smaller model"


def _free(work: Workload) -> int | None:
    """Bytes free for a workload: of all GPUs, if its layers are spread over them."""
    return free_memory(work.device, all_gpus=work.options.device_map is not None)


def _gpus(device: str) -> int:
    import torch

    return torch.cuda.device_count() if device.startswith("cuda") else 0


def _changes(work: Workload) -> Iterator[Change]:
    """Single changes, from those that leave the numbers as they are to those that do not."""
    options, on_cpu = work.options, work.device == "cpu"
    is_bound = _is_bound(work)
    for rows in _smaller(work.batch_size):
        yield f"--batch-size {rows}", replace(work, batch_size=rows)
    if not options.vae_slicing:
        yield "--vae-slicing", replace(work, options=replace(options, vae_slicing=True))
    if options.offload == "none" and not on_cpu and not is_bound:
        if _gpus(work.device) > 1:
            balanced = replace(options, device_map="balanced")
            yield "--device-map balanced", replace(work, options=balanced)
        yield "--offload encoders", _offloaded(work, "encoders")
    if options.offload != "sequential" and not on_cpu and not is_bound:
        yield "--offload sequential", _offloaded(work, "sequential")
    if work.dtype.itemsize > 2:
        yield "--dtype bfloat16", replace(work, dtype=_half())
    if options.offload == "none" and not is_bound:
        for text in _quantisations(on_cpu):
            yield f"--quantize {text}", _quantised(work, text)


def _combinations(work: Workload) -> Iterator[Change]:
    """Combinations of changes: each adds one, or another kind of the last one."""
    options, on_cpu, flags = work.options, work.device == "cpu", ""
    if work.dtype.itemsize > 2:
        work, flags = replace(work, dtype=_half()), "--dtype bfloat16 "
    if not options.vae_slicing:
        options = replace(options, vae_slicing=True)
        work, flags = replace(work, options=options), f"{flags}--vae-slicing "
    if flags:
        yield flags.strip(), work
    if work.batch_size > 1:
        work, flags = replace(work, batch_size=1), f"{flags}--batch-size 1 "
        yield flags.strip(), work
    if options.offload != "none" or _is_bound(work):
        return
    if not on_cpu:
        yield f"{flags}--offload encoders", _offloaded(work, "encoders")
    for text in _quantisations(on_cpu):
        yield f"{flags}--quantize {text}", _quantised(work, text)
    if not on_cpu:
        yield f"{flags}--offload sequential", _offloaded(work, "sequential")


def _is_bound(work: Workload) -> bool:
    """Whether the weights stay where and as they are: placed by a library, or with a ControlNet."""
    options = work.options
    placed = options.quantise is not None or options.device_map is not None
    return placed or work.control is not None


def _quantisations(on_cpu: bool) -> tuple[str, ...]:
    """Values of ``--quantize`` that work on a device; bitsandbytes needs a GPU for networks."""
    on_gpu = ("text:4bit", "all:8bit", "all:4bit")
    return ("text:8bit", *(("all:8bit:torchao",) if on_cpu else on_gpu))


def _quantised(work: Workload, text: str) -> Workload:
    return replace(work, options=replace(work.options, quantise=parse_quantisation(text)))


def _offloaded(work: Workload, offload: str) -> Workload:
    return replace(work, options=replace(work.options, offload=offload))


def _smaller(rows: int) -> Sequence[int]:
    """A quarter of the rows, and a single one."""
    return sorted({max(1, rows // 4), 1} - {rows}, reverse=True)


def _half() -> torch.dtype:
    import torch

    return torch.bfloat16
