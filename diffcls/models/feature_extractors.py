"""Feature extractors for FID, KID, IS, precision and recall: the published Inception, or a CLIP.

Published values are on one Inception network. If its weights are not installed, a bundled CLIP
takes its place. Every result names its extractor.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcls.models import clip
from diffcls.models.quiet import LOADING
from diffcls.support.errors import ModelError, UsageError
from diffcls.support.hashing import hash_file

INCEPTION = "inception"
WEIGHTS_OF_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
"""File name of the published weights in torch-fidelity."""


@dataclass(frozen=True)
class Extractor:
    """A network that extracts features of images.

    Args:
        name: name of the network and width of its features, as written to results.
        revision: version of the weights.
        width: d, the number of features.
        forward: images (B, 3, H, W) in [−1, 1] -> features (B, d) and logits (B, K).
        square: whether images must be square. Their side may have any length.
    """

    name: str
    revision: str
    width: int
    forward: Callable[[Tensor], tuple[Tensor, Tensor]]
    square: bool = True

    @torch.inference_mode()
    def extract(
        self, images: Tensor, batch_size: int = 64
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, d) features and (n, K) logits of images (n, 3, H, W) in [−1, 1]."""
        parts = [self.forward(part) for part in images.split(batch_size)]
        features, logits = (
            torch.cat([pair[i] for pair in parts]).float().cpu().numpy() for i in (0, 1)
        )
        return features, logits


def check_name(name: str) -> None:
    """Check the name of an extractor, without loading it.

    Raises:
        UsageError, ModelError: as `diffcls.models.clip.check_name`; for the published Inception
            without its weights or torch-fidelity.
    """
    if name == INCEPTION:
        _inception_weights()
    else:
        clip.check_name(name)


def load(name: str, texts: Sequence[str], class_of: Sequence[int], device: str) -> Extractor:
    """Load an extractor by its name.

    Args:
        name: ``inception``, or a CLIP as `diffcls.models.clip.load` takes it.
        texts, class_of: prompts of the classes and the class index of each, for the logits of a
            CLIP; without texts it has no classes, K = 0.
        device: device to run on.

    Raises:
        UsageError, ModelError: see `check_name`.
    """
    if name == INCEPTION:
        return _inception(device)
    model = clip.load(name, device)
    scale = model.logit_scale
    # without classes, an empty text still gives the width
    classifier = model.classifier(texts, class_of) if texts else model.classifier([""], [0])[:0]
    width = classifier.shape[1]

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        directions = model.embed_generated(images.to(model.device))
        # of length √d, so that features are about 1, as Inception's: KID's kernel is not scale-free
        return width**0.5 * directions, scale * directions @ classifier.T

    return Extractor(f"{model.card.name}-{width}", model.card.revision, width, forward)


def default(clip: str | None) -> str:
    """The published Inception if its weights are installed, or else a CLIP.

    Args:
        clip: name of the CLIP of the data set; None without a data set.

    Raises:
        UsageError: without either.
    """
    installed = importlib.util.find_spec("torch_fidelity") is not None
    if installed and _weights_path().is_file():
        return INCEPTION
    if clip is None:
        what = "--extractor is required without --dataset"
        raise UsageError(what, todo="add --extractor NAME, for instance clip-digits")
    return clip


def _weights_path() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_OF_INCEPTION


def _inception_weights() -> Path:
    path = _weights_path()
    try:
        import torch_fidelity  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "Inception needs torch-fidelity",
            given=str(error),
            todo='pip install "diffcls[metrics]"',
        ) from None
    if not path.is_file():
        raise ModelError(
            "weights of --extractor inception not found",
            given=str(path),
            todo="download that file from torch-fidelity's releases, or use --extractor clip-…",
        )
    return path


def _inception(device: str) -> Extractor:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = _inception_weights()
    # torch-fidelity opens it as a pickle, which may run code: only the published file is opened
    if not hash_file(path).startswith(path.stem.rpartition("-")[2]):
        raise ModelError(
            "weights of --extractor inception are not the published file",
            given=str(path),
            todo="delete it, and download it from torch-fidelity's releases again",
        )
    with LOADING:
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat",
            ["2048", "logits_unbiased"],
            feature_extractor_weights_path=str(path),
        ).to(device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        # uint8, as torch-fidelity gives them; the network resizes them itself
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(device, torch.uint8)
        features, logits = network(pixels)
        return features, logits

    return Extractor(
        "inception-v3-compat-2048", path.stem.rpartition("-")[2], 2048, forward, square=False
    )
