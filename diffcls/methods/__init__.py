"""Classifiers behind the one `Method` contract: one file a method."""

from __future__ import annotations

from diffcls.registry import Registry

# name -> a diffcls.method.MethodKind
METHODS = Registry(
    "method",
    {
        "diffusion": "diffcls.methods.building:DIFFUSION",
        "clip": "diffcls.methods.clip:CLIP",
        "sd-features": "diffcls.methods.sd_features:SD_FEATURES",
        "synthetic": "diffcls.methods.synthetic:SYNTHETIC",
        "reference": "diffcls.methods.reference:REFERENCE",
    },
)
