"""Callbacks for other people's training loops: zero-shot accuracy while a model is trained.

The names are imported on first use. Callbacks of transformers' and Lightning's trainers are in
modules of their own, `diffcls.integrations.trainer_callback` and
`diffcls.integrations.lightning_callback`.
"""

from __future__ import annotations

from typing import Any

from diffcls.support.registry import Registry

_EXPORTS = Registry(
    "name in diffcls.integrations",
    {
        "ZeroShotAccuracy": "diffcls.integrations.zero_shot_accuracy:ZeroShotAccuracy",
        "ZeroShotResult": "diffcls.integrations.result:ZeroShotResult",
    },
)
__all__ = ["ZeroShotAccuracy", "ZeroShotResult"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return _EXPORTS.load(name)
    raise AttributeError(f"module 'diffcls.integrations' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
