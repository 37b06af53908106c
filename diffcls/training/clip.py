"""Training of a small CLIP: open_clip's model and contrastive loss (Radford et al. 2021).

It is the baseline of the small diffusion models, on the same images, captions and augmentation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from diffcls.data.left_out import classes_without
from diffcls.data.load import load_dataset
from diffcls.data.prompts import benchmark_prompts
from diffcls.metrics.classification import top_k_accuracy
from diffcls.models import clip
from diffcls.models.denoiser import ModelCard
from diffcls.models.json_files import read_json
from diffcls.models.loading import CARD
from diffcls.models.small_stable_diffusion import TinyConfig, build_tokenizer
from diffcls.support.seeding import key
from diffcls.training.augmentation import augment
from diffcls.training.caption_batches import CaptionBatch, tokenize
from diffcls.training.distributed import device_of
from diffcls.training.loop import Phase, generator
from diffcls.training.mixed_precision import compiled, mixed_precision
from diffcls.training.model_card import clip_readme
from diffcls.training.recipe_table import ANY_RECIPE, RECIPES
from diffcls.training.recipes import Augmentation, ClipRecipe, Recipe
from diffcls.training.run import VOCABULARY_CAPTIONS, TrainingRun
from diffcls.training.stored_images import Images, store, tensor_of

STATISTICS_BATCHES = 12
"""Number of batches that the statistics of batch normalisation are averaged over."""


class ClipTraining(TrainingRun):
    """Training of a small CLIP; see `diffcls.training.run.TrainingRun`."""

    index: ClassVar[str] = clip.CONFIG
    recipe: ClipRecipe

    @property
    def _diffusion_recipe(self) -> Recipe:
        """Recipe of the diffusion model of the same data set."""
        return RECIPES.get(self.dataset, ANY_RECIPE)

    @property
    def benchmark(self) -> str:
        """Data set that the model is validated on."""
        return self._diffusion_recipe.measured_on or self.dataset

    def run(self) -> dict[str, Any]:
        train = self.training_data()
        stored, labels = store(train, self.recipe.image_size)
        images = stored.to(self._data_device)

        words = self._captions(train, labels)
        torch.manual_seed(key("weights", self.seed))
        if self.init:
            held = clip.load(self.init)
            model, tokenizer = held.model, held.tokenize.tokenizer
        else:
            vocabulary = [words(i % len(labels), -1 - i) for i in range(VOCABULARY_CAPTIONS)]
            shape = TinyConfig(vocabulary=self.recipe.vocabulary, max_tokens=self.recipe.max_tokens)
            tokenizer = build_tokenizer(vocabulary, shape)
            model = build(model_config(self.recipe, len(tokenizer)))
        config = model_config(self.recipe, len(tokenizer))
        augmentation = self._diffusion_recipe.augmentation
        captions = self._caption_batches(tokenizer, words, labels)
        phase = clip_phase(model, images, captions, augmentation, self.recipe, self.seed)
        loop = self._loop(phase)

        def batches() -> Iterator[Tensor]:
            for step in range(STATISTICS_BATCHES):
                rng = generator("settle", self.seed, step)
                rows = torch.randint(len(images), (self.recipe.batch,), generator=rng)
                yield augment(images[rows].cpu(), augmentation, rng)

        def measure(step: int) -> dict[str, float]:
            with recomputed_statistics(model.visual, batches()):
                accuracy = self._accuracy(self._in_training(model, tokenizer))
            return {"images": step * self.recipe.batch, "validation_accuracy": accuracy}

        loop.run(measure, self.points)
        if not self.processes.is_main_process:
            return {}
        with recomputed_statistics(model.visual, batches()):
            save(model, tokenizer, config, self.folder)
        accuracy = self._accuracy(clip.load(str(self.folder)))
        facts = {
            "trained_on": self.trained_on(train),
            "measured_on": self.benchmark,
            "validation_accuracy": accuracy,
        }
        return self._write_card(facts, train, loop.seconds / 3600, "clip")

    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        name = str(self.init)
        folder = clip.folder_of(name) or Path(name)
        return read_json(folder / CARD), clip.read_card(folder).revision

    def _in_training(self, model: Any, tokenizer: Any) -> clip.ClipModel:
        return clip.ClipModel(
            model=model,
            preprocess=None,
            tokenize=lambda texts: tokenize(tokenizer, texts),
            card=ModelCard("in training", ""),
            device=torch.device("cpu"),
            image_size=self.recipe.image_size,
        )

    def _accuracy(self, model: clip.ClipModel, split: str = "validation") -> float:
        """Zero-shot accuracy on all images of a split of the benchmark, with its own prompts."""
        whole = load_dataset(self.benchmark, split, self.data_root)
        data = classes_without(whole, self.without)
        prompts = benchmark_prompts(self.benchmark, data)
        classifier = model.classifier(prompts.prompts, prompts.class_of)
        images, _ = tensor_of(data, self.recipe.image_size)
        labels = [item.class_index for item in data.items]
        scores = torch.cat([model.embed(part) for part in images.split(64)]) @ classifier.T
        ranking = scores.argsort(dim=1, descending=True, stable=True)
        return top_k_accuracy(ranking.numpy(), labels)

    def readme(self, card: dict[str, Any]) -> str:
        return clip_readme(card)

    def report(self, card: dict[str, Any]) -> list[str]:
        accuracy = self._accuracy(clip.load(str(self.folder)), "test")
        return [
            f"validation accuracy {card['validation_accuracy']:.1%} on {self.benchmark}",
            f"test accuracy {accuracy:.1%}",
            f"evaluate it: python -m diffcls.evaluate --dataset {self.benchmark} --method clip "
            f"--model {self.folder}",
        ]


def model_config(recipe: ClipRecipe, vocabulary: int) -> dict[str, Any]:
    """open_clip's ``model_cfg``."""
    return {
        "embed_dim": recipe.embed_dim,
        "vision_cfg": {
            "image_size": recipe.image_size,
            "layers": list(recipe.vision_layers),
            "width": recipe.vision_width,
            "patch_size": None,
        },
        "text_cfg": {
            "context_length": recipe.max_tokens,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": "in this folder",
            "width": recipe.text_width,
            "heads": recipe.text_width // 32,
            "layers": recipe.text_layers,
        },
    }


def build(config: dict[str, Any]) -> Any:
    """An untrained open_clip model; its weights follow torch's global seed."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision, text = CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"])
    return CLIP(config["embed_dim"], vision, text)


def clip_phase(
    model: Any,
    images: Images,
    captions: CaptionBatch,
    augmentation: Augmentation,
    recipe: ClipRecipe,
    seed: int,
) -> Phase:
    """Training phase of a CLIP: both encoders are trained on open_clip's contrastive loss.

    Args:
        model: open_clip model.
        images: (N, 3, H, W) in [−1, 1]; random numbers are drawn on their device.
        captions: token ids of a batch.
        augmentation: applied to every image each time it is seen.
        recipe: number of images seen, batch size, learning rate.
        seed: seed of all random choices.
    """
    from open_clip.loss import ClipLoss

    contrast, batch, here = ClipLoss(), recipe.batch, images.device
    encode_image, encode_text = (
        compiled(f, recipe) for f in (model.encode_image, model.encode_text)
    )

    def loss(step: int) -> Tensor:
        rng = generator("clip", seed, step, device=here)
        rows = torch.randint(len(images), (batch,), generator=rng, device=here)
        # channels last: convolutions are a fifth to a quarter faster on a CPU
        pixels = augment(images[rows], augmentation, rng).contiguous(
            memory_format=torch.channels_last
        )
        device = device_of(model)
        ids = captions(rows, None, step * batch, rng)
        # as open_clip: the inverse temperature is at most 100
        scale = model.logit_scale.clamp(max=float(torch.tensor(100.0).log())).exp()
        with mixed_precision(device, recipe):
            image_states = encode_image(pixels.to(device), normalize=True)
            text_states = encode_text(ids.to(device), normalize=True)
        value: Tensor = contrast(image_states.float(), text_states.float(), scale)
        return value

    return Phase("clip", {"clip": model}, loss, recipe)


@contextmanager
def recomputed_statistics(module: nn.Module, batches: Iterator[Tensor]) -> Iterator[None]:
    """Evaluation mode with batch statistics recomputed for the current weights.

    The running statistics belong to the weights of earlier steps, not to the moving average; they
    are restored on exit.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    held = {k: v.clone() for k, v in module.state_dict().items() if "running" in k or "num_" in k}
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    try:
        module.train()
        with torch.no_grad():
            for pixels in batches:
                module(pixels)
        module.eval()
        yield
    finally:
        for norm, before in zip(norms, momentum, strict=True):
            norm.momentum = before
        module.load_state_dict(held, strict=False)


def save(model: Any, tokenizer: Any, config: dict[str, Any], folder: Any) -> None:
    """Write a folder that open_clip opens as ``local-dir:FOLDER``, weights in half precision."""
    from safetensors.torch import save_file

    backend = tokenizer.backend_tokenizer
    backend.no_padding()  # state of the last call, not part of the model
    backend.no_truncation()
    for place in ("is_local", "local_files_only"):  # how it was opened is not part of it
        tokenizer.init_kwargs.pop(place, None)
    tokenizer.save_pretrained(folder)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    stored = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / clip.CONFIG).write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / clip.CHECKPOINT)
