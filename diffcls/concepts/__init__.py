"""Concepts: classes learned from a few images, one file for each way of learning (``--method``)."""

from __future__ import annotations

from diffcls.support.registry import Registry

# name -> a diffcls.concepts.kinds.LearningKind
METHODS = Registry(
    "method of learning a concept",
    {
        "textual": "diffcls.concepts.textual:TEXTUAL",
        "discriminative": "diffcls.concepts.discriminative:DISCRIMINATIVE",
        "dreambooth": "diffcls.concepts.dreambooth:DREAMBOOTH",
    },
)
# name -> names of the modules that a LoRA changes
LAYERS = Registry(
    "choice of layers",
    {
        "attention": "diffcls.concepts.dreambooth:ATTENTION",
        "blocks": "diffcls.concepts.dreambooth:BLOCKS",
    },
)
