"""CLIP and SigLIP models, loaded with open_clip: by architecture and tag, from a folder or the Hub.

Radford et al. 2021: an image goes to the class whose text lies nearest on the unit sphere. SigLIP
(Zhai et al. 2023) and SigLIP 2 (Tschannen et al. 2025) differ in the loss: each pair of image and
text matches or does not, with probability σ(t·cos + b).
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffcls.models.clip_files import CHECKPOINT as CHECKPOINT
from diffcls.models.clip_files import CONFIG as CONFIG
from diffcls.models.clip_files import (
    check_bias,
    check_folder,
    check_padding,
    create,
    download,
    tokenizer_of,
    tokenizer_repository,
)
from diffcls.models.clip_names import HUB, cached_or_reachable, hub_folder, import_open_clip
from diffcls.models.clip_names import bundled as bundled
from diffcls.models.clip_names import check_name as check_name
from diffcls.models.clip_names import find_card as find_card
from diffcls.models.clip_names import folder_of as folder_of
from diffcls.models.clip_names import read_card as read_card
from diffcls.models.clip_prompts import PROMPTS_PER_CHUNK, report_truncation
from diffcls.models.clip_prompts import ensemble as ensemble
from diffcls.models.components import check_finite, first_line
from diffcls.models.denoiser import ModelCard
from diffcls.models.kept import kept
from diffcls.models.quiet import alone
from diffcls.support.errors import DiffclsError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


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

    @property
    def logit_bias(self) -> float:
        """The learned bias b of a SigLIP model; 0 for a CLIP, whose loss has none."""
        bias = getattr(self.model, "logit_bias", None)
        return 0.0 if bias is None else float(bias.detach())

    @property
    def is_sigmoid(self) -> bool:
        """Whether the model was trained with the sigmoid loss, as SigLIP."""
        return getattr(self.model, "logit_bias", None) is not None

    def logits(self, pixels: Tensor, classifier: Tensor) -> Tensor:
        """(B, 3, H, W) preprocessed images, (K, D) classifier -> (B, K) logits t·cos + b.

        Their softmax is the posterior of exactly one of the classes, for both losses: it is that of
        CLIP's own loss, and under SigLIP's, where each class k matches with probability σ(z_k)
        independently, P(only k) ∝ σ(z_k) Π_{j≠k} (1 − σ(z_j)) ∝ σ(z_k) / (1 − σ(z_k)) = exp(z_k).
        """
        return self.logit_scale * self.embed(pixels) @ classifier.T + self.logit_bias

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K) logits -> (B, K) probabilities, as transformers' pipeline returns them.

        Of a SigLIP model: σ(logit), whether each text matches the image; they need not add up to 1.
        Of a CLIP: the softmax over the classes.
        """
        return logits.sigmoid() if self.is_sigmoid else logits.softmax(dim=-1)

    def classifier(self, texts: Sequence[str], class_of: Sequence[int]) -> Tensor:
        """(K, D) unit vectors: the mean of a class's unit text embeddings, normalised again.

        Prompt ensembling (Radford et al. 2021, section 3.1.4). Texts that are longer than the
        context of the model are truncated, with a warning.
        """
        import torch
        import torch.nn.functional as F

        parts = []
        tokens = list(self._tokens(texts))
        report_truncation(self.tokenize, texts, torch.cat(tokens))
        with torch.inference_mode():
            for ids in tokens:
                encoded = self.model.encode_text(ids.to(self.device), normalize=True)
                parts.append(encoded.float())
            total = torch.zeros(max(class_of) + 1, parts[0].shape[1], device=self.device)
            total.index_add_(0, torch.tensor(class_of, device=self.device), torch.cat(parts))
            return F.normalize(total, dim=1)

    def prompt_keys(self, texts: Sequence[str]) -> list[Hashable]:
        """(P,) the token ids of each text; equal for texts that the model cannot tell apart."""
        return [row.numpy().tobytes() for ids in self._tokens(texts) for row in ids]

    def _tokens(self, texts: Sequence[str]) -> Iterator[Tensor]:
        """(P, L) token ids, in chunks."""
        for start in range(0, len(texts), PROMPTS_PER_CHUNK):
            yield self.tokenize(list(texts[start : start + PROMPTS_PER_CHUNK]))

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
        name: a bundled name, a folder with ``open_clip_config.json``, ``hf-hub:OWNER/NAME`` for a
            repository of such files, or ``ARCHITECTURE/TAG`` in the terms of open_clip, such as
            ``ViT-B-16-SigLIP2/webli``; TAG may be a file of weights.
        device, dtype: device and precision; float32 by default.

    Raises:
        UsageError: for an unknown name.
        ModelError: if open_clip is not installed, or the weights are not available, not finite, or
            those of another loss than the config's.
    """
    import torch

    open_clip = import_open_clip()
    dtype = dtype or torch.float32
    check_name(name)
    folder = folder_of(name)
    if name.startswith(HUB):
        folder, card = hub_folder(name)
    else:
        card = find_card(name)
    try:
        with alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # raised by the library's own calls
            if folder is not None:
                checkpoint = check_folder(folder)
                source, tag = f"local-dir:{folder}", None
            else:
                source, _, tag = name.partition("/")
                tokenizer = tokenizer_repository(source)
                if tokenizer:
                    cached_or_reachable(tokenizer, "the tokenizer of the CLIP model", name)
            model, preprocess = create(source, tag, dtype, device)
            if folder is None:
                checkpoint = download(source, str(tag))
            check_bias(model, checkpoint)
            open_clip.load_checkpoint(model, str(checkpoint))
            tokenize = tokenizer_of(source)
            check_padding(model, tokenize)
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
