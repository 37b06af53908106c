"""Classifiers behind the `Method` protocol, one file for each ``--method`` value."""

from __future__ import annotations

from diffcls.support.registry import Registry

# name -> a diffcls.classifiers.base.MethodKind
METHODS = Registry(
    "method",
    {
        "diffusion": "diffcls.classifiers.model_options:DIFFUSION",
        "clip": "diffcls.classifiers.clip:CLIP",
        "sd-features": "diffcls.classifiers.sd_features:SD_FEATURES",
        "features": "diffcls.classifiers.features:FEATURES",
        "synthetic": "diffcls.classifiers.synthetic:SYNTHETIC",
        "reference": "diffcls.classifiers.reference:REFERENCE",
    },
)
