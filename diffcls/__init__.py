"""Zero-shot image classification with trained diffusion models, and its benchmark harness.

The public names are imported on first use. The exceptions are `DiffclsError` and its subclasses
`UsageError`, `DataError`, `ModelError` and `RecordError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from diffcls.support.registry import Registry
from diffcls.support.version import __version__

_EXPORTS = Registry(
    "name in diffcls",
    {
        "ZeroShotImageClassifier": "diffcls.api.zero_shot:ZeroShotImageClassifier",
        "DiffusionClassifier": "diffcls.api.estimator:DiffusionClassifier",
        "fit_temperature": "diffcls.metrics.calibration:fit_temperature",
        "run_evaluation": "diffcls.cli.reported_evaluation:run_evaluation",
        "compare_runs": "diffcls.runs.comparison:compare_runs",
        "measure_fidelity": "diffcls.generation.fidelity:measure_fidelity",
        "estimate_likelihood": "diffcls.generation.dataset_likelihood:estimate_likelihood",
        "generate_images": "diffcls.generation.images:generate_images",
        "DiffclsError": "diffcls.support.errors:DiffclsError",
        "UsageError": "diffcls.support.errors:UsageError",
        "DataError": "diffcls.support.errors:DataError",
        "ModelError": "diffcls.support.errors:ModelError",
        "RecordError": "diffcls.support.errors:RecordError",
    },
)
__all__ = [
    "DataError",
    "DiffclsError",
    "DiffusionClassifier",
    "ModelError",
    "RecordError",
    "UsageError",
    "ZeroShotImageClassifier",
    "__version__",
    "compare_runs",
    "estimate_likelihood",
    "fit_temperature",
    "generate_images",
    "measure_fidelity",
    "run_evaluation",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return _EXPORTS.load(name)
    raise AttributeError(f"module 'diffcls' has no attribute {name!r}")


def __dir__() -> Iterable[str]:
    return sorted(__all__)
