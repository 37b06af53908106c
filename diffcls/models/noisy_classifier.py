"""Classifier of noisy images, for classifier guidance (Dhariwal and Nichol 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffcls.models.card import CARD, read_stored
from diffcls.models.components import check_finite, first_line
from diffcls.models.denoiser import Denoiser
from diffcls.models.loading import WEIGHTS
from diffcls.models.quiet import LOADING
from diffcls.models.resnet import SmallResNet
from diffcls.support.errors import ModelError, unknown_name
from diffcls.support.hashing import hash_file, hash_json

CHECKPOINT = "noisy_classifier.safetensors"
REQUIRED = ("name", "shape", "labels", "trained_with", "recipe")
"""Entries that the card of a classifier must have."""


class NoisyClassifier(nn.Module):
    """Small residual network (x_t, α, σ) -> logits; the noise level is two more input channels.

    Args:
        classes: K.
        channels: C of x_t.
        widths: see `SmallResNet`.
    """

    def __init__(self, classes: int, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.body = SmallResNet(classes, widths, channels + 2)

    def forward(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_t (B, C, h, w), alpha and sigma (B,) -> (B, K) logits."""
        level = torch.stack([alpha, sigma], dim=1).to(x_t.dtype)[:, :, None, None]
        planes = level.expand(-1, -1, *x_t.shape[2:])
        logits: Tensor = self.body(torch.cat([x_t, planes], dim=1))
        return logits


@dataclass(frozen=True)
class Loaded:
    """A loaded classifier of noisy images.

    Args:
        name: name of the classifier.
        model: the network.
        class_names: (K,) names of its classes.
        trained_with: the diffusion model on whose noise levels it was trained.
        shape: (C, h, w) of its input images.
    """

    name: str
    model: NoisyClassifier
    class_names: tuple[str, ...]
    trained_with: str
    shape: tuple[int, int, int]

    def logits_for(self, denoiser: Denoiser) -> Any:
        """The classifier on a denoiser's noise schedule: (x_t, schedule index) -> (B, K) logits.

        Raises:
            ModelError: for a denoiser whose images or latents have another shape.
        """
        if tuple(denoiser.sample_shape) != self.shape:
            raise ModelError(
                "the classifier reads images of another shape than the model's",
                given=self.shape,
                allowed=str(tuple(denoiser.sample_shape)),
            )
        alpha, sigma = (
            torch.tensor(v, dtype=torch.float32, device=denoiser.device)
            for v in (denoiser.schedule.alpha, denoiser.schedule.sigma)
        )
        model = self.model.to(denoiser.device)
        return lambda x_t, index: model(x_t, alpha[index], sigma[index])


def bundled() -> list[str]:
    """Names of the bundled classifiers."""
    return sorted(path.parent.name for path in WEIGHTS.glob(f"*/{CHECKPOINT}"))


def check_name(name: str) -> None:
    """Raise UsageError unless `name` is a bundled classifier or a folder of one."""
    if name not in bundled() and not (Path(name) / CHECKPOINT).is_file():
        raise unknown_name("classifier of noisy images", name, [*bundled(), "PATH of a folder"])


def folder_of(name: str) -> Path:
    """Folder of a classifier, by its name or folder."""
    return WEIGHTS / name if name in bundled() else Path(name)


def revision(folder: Path) -> str:
    """A hash of the weights, and of the order of the classes that a person's own card names.

    The cards of the bundled classifiers are part of the package's version.
    """
    of_weights = hash_file(folder / CHECKPOINT)
    if folder.parent == WEIGHTS:
        return of_weights
    return hash_json([of_weights, list(read_stored(folder).get("labels", ()))])


def load(name: str) -> Loaded:
    """Load a classifier by its name or folder.

    Raises:
        UsageError: for an unknown name.
        ModelError: for a folder that is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_name(name)
    folder = folder_of(name)
    card = read_stored(folder)
    missing = [
        key for key in ("name", "shape", "labels", "trained_with", "recipe") if key not in card
    ]
    if missing or "widths" not in card["recipe"]:
        raise ModelError(
            f"cannot open the classifier: its card lacks {(missing or ['recipe.widths'])[0]!r}",
            given=str(folder / CARD),
        )
    names, widths = tuple(card["labels"]), tuple(card["recipe"]["widths"])
    try:
        with LOADING:
            model = NoisyClassifier(len(names), card["shape"][0], widths)
        model.load_state_dict({k: v.float() for k, v in load_file(folder / CHECKPOINT).items()})
    except (TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot open the classifier ({first_line(error)})", given=str(folder)
        ) from error
    check_finite("classifier", model)
    model.eval().requires_grad_(False)
    return Loaded(card["name"], model, names, card["trained_with"], tuple(card["shape"]))


def save(model: NoisyClassifier, folder: Path) -> None:
    """Write the weights to `folder`, in half precision."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    halves = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(halves, folder / CHECKPOINT)
