"""diffcls turns a trained diffusion model into a zero-shot image classifier, and measures it."""

from __future__ import annotations

from typing import Any

from diffcls.support.registry import Registry
from diffcls.support.version import __version__

_EXPORTS = Registry(
    "name in diffcls",
    {
        "ZeroShotImageClassifier": "diffcls.api.zero_shot:ZeroShotImageClassifier",
        "DiffusionClassifier": "diffcls.api.estimator:DiffusionClassifier",
        "run_evaluation": "diffcls.evaluation.run:run_evaluation",
        "measure_fidelity": "diffcls.generation.fidelity:measure_fidelity",
        "estimate_likelihood": "diffcls.generation.dataset_likelihood:estimate_likelihood",
        "generate_images": "diffcls.generation.images:generate_images",
    },
)
__all__ = [
    "DiffusionClassifier",
    "ZeroShotImageClassifier",
    "__version__",
    "estimate_likelihood",
    "generate_images",
    "measure_fidelity",
    "run_evaluation",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return _EXPORTS.load(name)
    raise AttributeError(f"module 'diffcls' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
