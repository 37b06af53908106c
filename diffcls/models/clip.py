"""CLIP models, loaded with open_clip: by architecture and tag, from a folder, or bundled.

Radford et al. 2021: an image goes to the class whose text lies nearest on the unit sphere.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.data.seen_images import SEEN_FILE
from diffcls.models.card import CARD, card_of, read_stored
from diffcls.models.clip_files import CHECKPOINT as CHECKPOINT
from diffcls.models.clip_files import CONFIG as CONFIG
from diffcls.models.clip_files import check_folder, create, download, tokenizer_of
from diffcls.models.components import check_finite, first_line
from diffcls.models.denoiser import ModelCard
from diffcls.models.kept import kept
from diffcls.models.loading import WEIGHTS
from diffcls.models.quiet import alone
from diffcls.models.revision import files_below, revision_of
from diffcls.support.errors import DiffclsError, ModelError, UsageError, unknown_name
from diffcls.support.hashing import hash_file
from diffcls.support.hub import ask_hub, cached_commit, repository_cache

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_NULL_HANDLER = logging.NullHandler()
INSTALL = 'pip install "diffcls[clip]"'


def bundled() -> list[str]:
    """Names of the bundled CLIP models."""
    return sorted(path.parent.name for path in WEIGHTS.glob(f"*/{CONFIG}"))


def check_name(name: str) -> None:
    """Check a name without opening a model or contacting the Hub.

    Raises:
        UsageError: for a name that is not a bundled model, a folder or ``ARCHITECTURE/TAG``, with
            a "did you mean".
        ModelError: if open_clip is not installed, or a folder contains no model of it.
    """
    if name in bundled():
        return
    if Path(name).is_dir():
        if not (Path(name) / CONFIG).is_file():
            raise ModelError(
                "not an open_clip folder", given=name, allowed=f"a folder with {CONFIG}"
            )
        return
    open_clip = _open_clip()
    architecture, _, tag = name.partition("/")
    if architecture not in open_clip.list_models():
        forms = ["ARCHITECTURE/TAG such as RN50/openai, as open_clip lists them", "PATH"]
        known = [f"{model}/{tag}" for model, tag in open_clip.list_pretrained()]
        raise unknown_name("CLIP model", name, [*bundled(), *known], [*bundled(), *forms])
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags and not Path(tag).is_file():
        raise unknown_name(f"weights of {architecture}", tag, [*tags, "FILE.safetensors"])


@dataclass
class ClipModel:
    """A loaded CLIP model.

    Args:
        model: open_clip's.
        preprocess: PIL image -> tensor (3, H, W), as the config of the weights declares.
        tokenize: texts -> token ids.
        card: name and revision.
        device: device of the weights.
        image_size: side of the input images in pixels.
        dtype: data type of the input images; None: float32. Some weights always stay in float32.
    """

    model: Any
    preprocess: Any
    tokenize: Any
    card: ModelCard
    device: torch.device
    image_size: int
    dtype: torch.dtype | None = None

    @property
    def logit_scale(self) -> float:
        """Factor of the cosine similarity: exp of the learned log scale."""
        return float(self.model.logit_scale.detach().exp())

    def classifier(self, texts: Sequence[str], class_of: Sequence[int]) -> Tensor:
        """(K, D) unit vectors: the mean of a class's unit text embeddings, normalised again.

        Prompt ensembling (Radford et al. 2021, section 3.1.4).
        """
        import torch
        import torch.nn.functional as F

        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), 256):
                ids = self.tokenize(list(texts[start : start + 256])).to(self.device)
                parts.append(self.model.encode_text(ids, normalize=True).float())
            total = torch.zeros(max(class_of) + 1, parts[0].shape[1], device=self.device)
            total.index_add_(0, torch.tensor(class_of, device=self.device), torch.cat(parts))
            return F.normalize(total, dim=1)

    def prompt_keys(self, texts: Sequence[str]) -> list[Hashable]:
        """(P,) the token ids of each text; equal for texts that the model cannot tell apart."""
        keys: list[Hashable] = []
        for start in range(0, len(texts), 256):
            keys += (
                ids.numpy().tobytes() for ids in self.tokenize(list(texts[start : start + 256]))
            )
        return keys

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) preprocessed images -> (B, D) unit vectors, float32."""
        import torch

        with torch.inference_mode():
            return self._embed(pixels)

    def embed_generated(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) square images in [−1, 1] -> (B, D) unit vectors; differentiable."""
        import torch
        import torch.nn.functional as F

        side = self.image_size
        if images.shape[-1] != side:
            images = F.interpolate(images, (side, side), mode="bicubic", antialias=True)
        config = self.model.visual.preprocess_cfg
        mean, std = (
            torch.tensor(config[name], device=images.device).reshape(-1, 1, 1)
            for name in ("mean", "std")
        )
        return self._embed(((images.clamp(-1, 1) + 1) / 2 - mean) / std)

    def _embed(self, pixels: Tensor) -> Tensor:
        import torch

        dtype = self.dtype or torch.float32
        features: Tensor = self.model.encode_image(pixels.to(self.device, dtype), normalize=True)
        return features.float()


@kept
def load(
    name: str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> ClipModel:
    """Load a CLIP model.

    Args:
        name: a bundled name, a folder with ``open_clip_config.json``, or ``ARCHITECTURE/TAG`` in
            the terms of open_clip; TAG may be a file of weights.
        device, dtype: device and precision; float32 by default.

    Raises:
        UsageError: for an unknown name.
        ModelError: if open_clip is not installed, or the weights are not available or not finite.
    """
    import torch

    open_clip = _open_clip()
    dtype = dtype or torch.float32
    card, folder = find_card(name), folder_of(name)
    try:
        with alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # raised by the library's own calls
            if folder is not None:
                checkpoint = check_folder(folder)
                source, tag = f"local-dir:{folder}", None
            else:
                source, _, tag = name.partition("/")
            model, preprocess = create(source, tag, dtype, device)
            if folder is None:
                checkpoint = download(source, str(tag))
            open_clip.load_checkpoint(model, str(checkpoint))
            tokenize = tokenizer_of(source)
    except DiffclsError:
        raise
    except Exception as error:  # open_clip raises whatever a config of another type leads to
        raise ModelError(
            f"cannot open the CLIP model ({first_line(error)})",
            given=name,
            todo="check the folder, or the network and the cache",
        ) from error
    check_finite("clip", model)
    size = model.visual.image_size
    side = int(size[0] if isinstance(size, tuple | list) else size)
    return ClipModel(model.eval(), preprocess, tokenize, card, torch.device(device), side, dtype)


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise ModelError("CLIP needs open_clip", given=str(error), todo=INSTALL) from None
    # open_clip logs to the root logger, which would add a handler that repeats our messages
    logging.getLogger().addHandler(_NULL_HANDLER)
    return open_clip


# the published ensembles of Radford et al. 2021, as open_clip ships them
ENSEMBLES = {
    "imagenet80": "OPENAI_IMAGENET_TEMPLATES",
    "imagenet7": "SIMPLE_IMAGENET_TEMPLATES",
}


def ensemble(name: str) -> tuple[str, ...]:
    """The templates of a published ensemble, each with one ``{}``.

    Raises:
        UsageError: for an unknown name.
        ModelError: if open_clip is not installed.
    """
    if name not in ENSEMBLES:
        raise unknown_name("ensemble of templates", name, ENSEMBLES)
    templates = getattr(_open_clip(), ENSEMBLES[name])
    return tuple(template("{}") for template in templates)


def find_card(name: str) -> ModelCard:
    """The card of a model, without opening its weights.

    Raises:
        UsageError, ModelError: see `load`.
    """
    check_name(name)
    folder = folder_of(name)
    if folder is not None:
        return read_card(folder)
    architecture, _, tag = name.partition("/")
    return ModelCard(name, _revision(architecture, tag))


def folder_of(name: str) -> Path | None:
    """Path of a bundled model or a folder, None for any other name."""
    folder = WEIGHTS / name if name in bundled() else Path(name)
    return folder if folder.is_dir() else None


def read_card(folder: Path) -> ModelCard:
    """The card in a folder; the revision is a hash of weights, configs and tokenizer."""
    card = card_of(read_stored(folder), folder)
    card = ModelCard(card.name, "", trained_on=card.trained_on, seen_images=card.seen_images)
    files = [path for path in files_below(folder) if path.name not in (CARD, SEEN_FILE)]
    return replace(card, revision=revision_of(files, folder, card))


def _revision(architecture: str, tag: str) -> str:
    """The Hub's commit of a tag's weights, or the hash of a file.

    Raises:
        UsageError: for a file that is not a safetensors file.
        ModelError: if the weights are not cached while the Hub cannot be reached.
    """
    if Path(tag).is_file():
        if Path(tag).suffix != ".safetensors":
            raise UsageError("CLIP weights are not a .safetensors file", given=tag)
        return hash_file(tag)
    config = _open_clip().get_pretrained_cfg(architecture, tag)
    repository = str(config.get("hf_hub") or "").rstrip("/")
    if not repository:
        return f"{tag} of open_clip"
    folder = repository_cache("models", repository)
    cached = cached_commit(folder, "main")

    def request() -> str:
        from huggingface_hub import HfApi

        return str(HfApi().model_info(repository, timeout=3.0).sha)

    commit = cached or ask_hub(request, lambda error: None)
    if commit is None:
        raise ModelError(
            "the Hub cannot be reached, and the CLIP model is not in the cache",
            given=f"{architecture}/{tag} ({repository})",
            allowed=f"a copy in {folder}",
            todo=f"run `hf download {repository}` on a machine with a network, and set "
            "HF_HOME to its cache",
        )
    return commit
