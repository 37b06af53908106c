"""Image backbones of timm, such as DINOv2, whose pooled features a linear probe reads.

The weights are loaded strictly: where a checkpoint lacks a weight, timm itself would keep random
values without a word once the classification head is removed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffcls.models.backbone_files import Source, find_source, read_weights
from diffcls.models.components import check_finite
from diffcls.models.denoiser import ModelCard
from diffcls.models.quiet import alone
from diffcls.support.errors import DiffclsError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


MAX_CHARACTERS = 300
"""Of the reason why a backbone cannot be opened."""


@dataclass
class Backbone:
    """A loaded backbone without its classification head.

    Args:
        model: timm's.
        preprocess: PIL image -> tensor (3, H, W), timm's own for these weights.
        config: what defines the preprocessing, in plain JSON types.
        card: name, and hash of the weights and of a folder's config.
        device, dtype: device and precision.
        image_size: side of the input images in pixels; the longer one.
    """

    model: Any
    preprocess: Any
    config: Mapping[str, Any]
    card: ModelCard
    device: torch.device
    dtype: torch.dtype
    image_size: int

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) preprocessed images -> (B, D) features, float32.

        They are what the model's own head receives: pooled, and normalised where the model does so.

        Raises:
            ModelError: for a backbone that does not pool its features.
        """
        import torch

        with torch.inference_mode():
            output: Tensor = self.model(pixels.to(self.device, self.dtype))
        if output.ndim != 2:
            raise ModelError(
                "features of the backbone are not pooled",
                given=f"{self.card.name}: {tuple(output.shape)}",
                allowed="one vector per image",
            )
        return output.float()


def load(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    img_size: int | None = None,
) -> Backbone:
    """Load a backbone.

    Args:
        name: see `diffcls.models.backbone_files.check_name`.
        device, dtype: device and precision; float32 by default.
        img_size: side of the images in pixels; None: that of the weights. Position embeddings are
            interpolated by timm.

    Raises:
        UsageError: for an unknown name.
        ModelError: if timm is not installed, or the weights are not available, not finite, or not
            those of the architecture.
    """
    import torch

    source = find_source(name)
    dtype = dtype or torch.float32
    try:
        with alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # raised by the library's own calls
            model = _create(source, img_size)
            config = _data_config(model, img_size)
            preprocess = _transform(config)
    except DiffclsError:
        raise
    except Exception as error:  # timm raises whatever weights of another type lead to
        raise ModelError(
            f"cannot open the backbone ({_reason(error)})",
            given=source.name,
            todo="check its architecture and weights" + ", or --img-size" * bool(img_size),
        ) from error
    check_finite("backbone", model)
    return Backbone(
        model.eval().to(device, dtype),
        preprocess,
        config,
        ModelCard(source.name, source.revision),
        torch.device(device),
        dtype,
        max(config["input_size"][1:]),
    )


def _reason(error: Exception) -> str:
    """The error in one line; the second line of torch's names the weights that do not fit."""
    lines = str(error).strip().splitlines()[:2] or [type(error).__name__]
    return " ".join(" ".join(lines).split())[:MAX_CHARACTERS]


def _create(source: Source, img_size: int | None) -> Any:
    """The network with its weights, and without its head."""
    import timm
    import torch

    arguments = dict(source.arguments)
    takes_size = source.config.get("fixed_input_size") or "img_size" in arguments
    if img_size is not None and takes_size:
        arguments["img_size"] = img_size
    with torch.device("meta"):
        bare = timm.create_model(source.architecture, num_classes=0, **arguments)
    weights = read_weights(source, set(bare.state_dict()))
    # equal numbers of classes, 0, and no name of a classifier make timm load strictly
    config = {**source.config, "num_classes": 0, "classifier": None, "state_dict": weights}
    model = timm.create_model(
        source.architecture, pretrained=True, pretrained_cfg=config, num_classes=0, **arguments
    )
    for attribute in ("pretrained_cfg", "default_cfg"):  # each may hold a copy of the weights
        getattr(model, attribute, {}).pop("state_dict", None)
    return model


def _data_config(model: Any, img_size: int | None) -> dict[str, Any]:
    """Size, interpolation, mean, standard deviation and crop of the images."""
    from timm.data import resolve_model_data_config

    config = dict(resolve_model_data_config(model))
    if img_size is not None:
        config["input_size"] = (3, img_size, img_size)
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in config.items()
    }


def _transform(config: Mapping[str, Any]) -> Any:
    from timm.data import create_transform

    sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    return create_transform(**sizes, is_training=False)
