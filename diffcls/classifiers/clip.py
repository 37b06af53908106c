"""CLIP as a zero-shot classifier, the published baseline of the diffusion classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffcls.classifiers.base import Built, MethodKind
from diffcls.classifiers.model_options import batch_size
from diffcls.classifiers.one_pass import BatchMethod, Pixels
from diffcls.classifiers.options import PROMPT_OPTIONS, ClassifierOptions
from diffcls.data.catalog import DatasetSpec
from diffcls.data.dataset import Item
from diffcls.data.distinct_prompts import check_distinct
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def name_of(options: ClassifierOptions, spec: DatasetSpec) -> str:
    """The CLIP model given, else the data set's default."""
    model_is_clip = tuple(options.method) == ("clip",)
    return options.clip_model or (options.model if model_is_clip else None) or spec.clip


def check(options: ClassifierOptions, spec: DatasetSpec) -> None:
    """Raise UsageError for an unknown model, or a size of the images."""
    from diffcls.models.clip import check_name

    check_name(name_of(options, spec))
    if options.img_size is not None:
        raise UsageError(
            "--img-size is not supported by CLIP, whose weights define the image size",
            given=options.img_size,
            todo="remove it",
        )


def build(options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet) -> Built:
    """CLIP with the candidates' prompts; a class with several has their mean embedding.

    Its scores are the model's own logits: the cosines times its logit scale, plus the logit bias of
    a SigLIP model. Their softmax is the posterior, see `diffcls.models.clip.ClipModel.logits`.

    Raises:
        UsageError, ModelError: see `diffcls.models.clip.load`.
    """
    from diffcls.models import clip, devices, precision

    device = devices.resolve_device(options.device)
    dtype = devices.resolve_dtype(options.dtype)
    model = clip.load(name_of(options, spec), device, dtype)
    check_distinct(prompts, model.prompt_keys(prompts.prompts))
    classifier = model.classifier(prompts.prompts, prompts.class_of)

    def read(item: Item) -> Pixels:
        pixels: Pixels = np.asarray(model.preprocess(load_image(item.open())), dtype=np.float32)
        return pixels

    def score(pixels: Tensor, _: Sequence[str]) -> Tensor:
        return model.logits(pixels, classifier)

    return Built(
        method=BatchMethod(
            read,
            lambda: score,
            batch_size=batch_size(options.batch_size),
            single=precision.repeated(model),
        ),
        card=model.card,
        prompts=prompts,
        img_size=model.image_size,
        dtype=str(dtype or "float32").removeprefix("torch."),
        device=device,
        setting=f"templates={options.ensemble or ' | '.join(prompts.filled) or 'of a file'}",
    )


CLIP = MethodKind(check, build, PROMPT_OPTIONS | {"model", "clip_model", "dtype"})
