"""Batch runner: launches batches on the device and delivers their results to the images."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcls.scoring.batch_size import halved, in_single_precision, is_out_of_memory
from diffcls.scoring.batches import Batch
from diffcls.scoring.image_state import ImageState
from diffcls.scoring.queues import Queues
from diffcls.scoring.scorer import Scorer


@dataclass
class Launched:
    """A batch that the device is processing.

    Args:
        batch: the requests.
        results: (M, ...) one result per request, on the device, perhaps not computed yet.
        started: time of the launch in seconds, as of `time.perf_counter`.
    """

    batch: Batch
    results: Tensor
    started: float


class BatchRunner:
    """Runs batches of requests on the device.

    Args:
        scorer: measures errors with the model.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self._last = 0.0
        # a CPU computes synchronously; an accelerator can be given the next batch meanwhile
        self.overlaps = scorer.denoiser.device.type != "cpu"

    def launch(self, queues: Queues) -> Launched | None:
        """Take a batch and start it on the device; None if memory does not suffice.

        In that case the requests are back in their queue, and the batch size is halved.

        Raises:
            ModelError: if memory does not suffice for one row.
        """
        batch = queues.take(self.scorer.batch_size)
        batch.fill(self.scorer.batch_size - len(batch))
        started = time.perf_counter()
        try:
            return Launched(batch, batch.measure(self.scorer), started)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        batch.put_back()
        self.scorer.batch_size = halved(self.scorer.batch_size, reason)
        return None

    def collect(self, launched: Launched) -> list[ImageState]:
        """Deliver the results; returns the images that have no pending request left."""
        batch = launched.batch
        batch.deliver(self._finite(launched))
        now = time.perf_counter()
        share = (now - max(launched.started, self._last)) / len(batch)
        self._last = now
        complete = []
        for image in batch.images:
            image.seconds += share
            image.pending -= 1
            if image.pending == 0:
                complete.append(image)
        return complete

    def _finite(self, launched: Launched) -> Tensor:
        """(M, ...) on the CPU; rows that are not finite are repeated once in single precision."""
        batch, denoiser = launched.batch, self.scorer.denoiser
        results = launched.results.cpu().clone()  # inference tensors cannot be written to
        # of requests only: a speculative result that is not finite is measured again if requested
        finite = torch.isfinite(results[: len(batch)]).reshape(len(batch), -1).all(dim=1)
        bad = finite.logical_not().nonzero().flatten()
        if not len(bad) or denoiser.dtype == torch.float32:
            return results

        def repeat(rows: range) -> None:
            chosen = bad[rows.start : rows.stop]
            results[chosen] = batch.select(chosen.tolist()).measure(self.scorer).cpu()

        if not in_single_precision(self.scorer, denoiser, len(bad), repeat):
            batch.precision = "and memory does not suffice for single precision"
        return results
