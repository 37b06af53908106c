"""What sees images for FID and its kin: features and class logits, of a network that is named.

The published figures are those of one Inception network. Where its weights are not there, a CLIP
of the project's own sees the images, and every figure says which.
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
from diffcls.support.errors import ModelError

INCEPTION = "inception"
WEIGHTS_OF_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
"""As torch-fidelity calls the file of the published weights."""


@dataclass(frozen=True)
class Extractor:
    """A network that sees images.

    Args:
        name: with the width of its features, as it stands beside every figure.
        revision: of its weights.
        width: d.
        see: images (B, 3, H, W) in [−1, 1] -> features (B, d) and logits (B, K).
    """

    name: str
    revision: str
    width: int
    see: Callable[[Tensor], tuple[Tensor, Tensor]]

    @torch.inference_mode()
    def extract(
        self, images: Tensor, batch_size: int = 64
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, d) features and (n, K) logits of images (n, 3, H, W)."""
        seen = [self.see(part) for part in images.split(batch_size)]
        features, logits = (
            torch.cat([pair[i] for pair in seen]).float().cpu().numpy() for i in (0, 1)
        )
        return features, logits


def check_name(name: str) -> None:
    """Refuse what is no extractor, without opening one.

    Raises:
        UsageError, ModelError: as `diffcls.models.clip.check_name`; where the published Inception
            is asked for and its weights, or torch-fidelity, are not there.
    """
    if name == INCEPTION:
        _inception_weights()
    else:
        clip.check_name(name)


def load(name: str, texts: Sequence[str], class_of: Sequence[int], device: str) -> Extractor:
    """The extractor of a name.

    Args:
        name: ``inception``, or a CLIP as `diffcls.models.clip.load` takes it.
        texts, class_of: the classes' prompts: to a CLIP, its logits are of these.
        device: where it runs.

    Raises:
        UsageError, ModelError: see `check_name`.
    """
    if name == INCEPTION:
        return _inception(device)
    model = clip.load(name, device)
    classifier, scale = model.classifier(texts, class_of), model.logit_scale
    width = classifier.shape[1]

    def see(images: Tensor) -> tuple[Tensor, Tensor]:
        directions = model.embed_drawn(images.to(model.device))
        # of length √d, so that a feature is about 1, as Inception's are: KID's kernel has a scale
        return width**0.5 * directions, scale * directions @ classifier.T

    return Extractor(f"{model.card.name}-{width}", model.card.revision, width, see)


def default(clip: str) -> str:
    """The published Inception where it is here, else a CLIP.

    Args:
        clip: of the data set.
    """
    installed = importlib.util.find_spec("torch_fidelity") is not None
    return INCEPTION if installed and _weights_path().is_file() else clip


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
            "the published weights of Inception are not here",
            given=str(path),
            todo="get that file of torch-fidelity's release, or use --extractor clip-…",
        )
    return path


def _inception(device: str) -> Extractor:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = _inception_weights()
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
    ).to(device)

    def see(images: Tensor) -> tuple[Tensor, Tensor]:
        # it wants bytes, and brings them to its own size and range itself
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(device, torch.uint8)
        features, logits = network(pixels)
        return features, logits

    return Extractor("inception-v3-compat-2048", path.stem.rpartition("-")[2], 2048, see)
