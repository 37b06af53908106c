"""Files of timm's real architectures with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file


def random_backbone(architecture: str, **arguments: Any) -> Any:
    """A model of timm; weights that start as zero or one are moved."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(architecture, **arguments)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter) * 0.05
    return model.eval()


def saved_backbone(folder: Path, architecture: str, **arguments: Any) -> Path:
    """The file of its weights, with those of its head."""
    path = folder / f"{architecture}.safetensors"
    save_file(random_backbone(architecture, **arguments).state_dict(), path)
    return path
