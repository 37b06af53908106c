"""Classifiers behind the one `Method` contract: one file a method."""

from __future__ import annotations

from diffcls.support.registry import Registry

# name -> a diffcls.classifiers.base.MethodKind
METHODS = Registry(
    "method",
    {
        "diffusion": "diffcls.classifiers.model_options:DIFFUSION",
        "clip": "diffcls.classifiers.clip:CLIP",
        "sd-features": "diffcls.classifiers.sd_features:SD_FEATURES",
        "synthetic": "diffcls.classifiers.synthetic:SYNTHETIC",
        "reference": "diffcls.classifiers.reference:REFERENCE",
    },
)
