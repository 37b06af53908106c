"""transformers' own zero-shot image classification pipeline, around a model without weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import BatchEncoding, BatchFeature
from transformers.pipelines.zero_shot_image_classification import (
    ZeroShotImageClassificationPipeline,
)


class RecordingModel:
    """The first label wins; the pixels of each image are recorded."""

    config = SimpleNamespace(model_type="clip")
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.pixels: list[np.ndarray] = []

    def __call__(self, input_ids: torch.Tensor, pixel_values: torch.Tensor) -> Any:
        self.pixels.append(pixel_values.numpy().astype(np.uint8))
        return SimpleNamespace(logits_per_image=-input_ids[None].float())


class ReferencePipeline(ZeroShotImageClassificationPipeline):
    """The pipeline's own calling code, with a tokenizer that records the prompts."""

    def __init__(self) -> None:
        self.model, self.prompts = RecordingModel(), []
        self.device = torch.device("cpu")
        self.feature_extractor = None
        self.tokenizer = self.tokenize
        self.image_processor = self.process
        self.call_count, self._batch_size, self._num_workers = 0, None, None
        self._preprocess_params, self._forward_params, self._postprocess_params = {}, {}, {}

    def tokenize(self, texts: list[str], **_: Any) -> BatchEncoding:
        self.prompts = texts
        return BatchEncoding({"input_ids": torch.arange(len(texts))})

    def process(self, images: list[Any], **_: Any) -> BatchFeature:
        return BatchFeature({"pixel_values": torch.from_numpy(np.array(images[0]))})
