"""Memory of a device that is free now: of a GPU, or of this machine within its limits."""

from __future__ import annotations

from pathlib import Path

CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
"""Limit and use of a container, in versions 2 and 1 of the kernel's control groups."""


def free_memory(device: str, all_gpus: bool = False) -> int | None:
    """Bytes that a model may take on a device; None where it is unknown.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. Apple's GPUs share the machine's memory.
        all_gpus: of all GPUs together, for a model that is spread over them.
    """
    if device.startswith("cuda"):
        import torch

        places = range(torch.cuda.device_count()) if all_gpus else [device]
        try:
            return sum(int(torch.cuda.mem_get_info(place)[0]) for place in places)
        except (RuntimeError, ValueError, AssertionError):
            return None
    return _of_machine()


def _of_machine() -> int | None:
    try:
        import psutil

        free = int(psutil.virtual_memory().available)
    except (ImportError, OSError, RuntimeError):
        return None
    left = [room for files in CGROUP_FILES if (room := _room(*files)) is not None]
    return min([free, *left])


def _room(limit: str, usage: str) -> int | None:
    """Bytes left of a container's limit; None without one."""
    try:
        most, used = (int(Path(path).read_text(encoding="ascii")) for path in (limit, usage))
    except (OSError, ValueError):  # no such file, or "max"
        return None
    # cached files count as used, and are given up when memory is needed
    return None if most > 1 << 60 else max(0, most - used + _cached())


def _cached() -> int:
    try:
        lines = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.split()[0] == "inactive_file")
