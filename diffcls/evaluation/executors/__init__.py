"""Executors: where a method runs, and how its results become records."""

from __future__ import annotations

from diffcls.support.registry import Registry

EXECUTORS = Registry(
    "executor",
    {
        "serial": "diffcls.evaluation.executors.serial:opened",
        "ray": "diffcls.evaluation.executors.ray:opened",
    },
)
"""Name -> options of an evaluation -> context of a `diffcls.evaluation.executors.base.Executor`."""
