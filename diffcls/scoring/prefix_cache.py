"""Prefix cache: the shared layers' outputs of each (image, draw), computed once for all classes.

Rows are computed in passes of one shape, padded if fewer are needed, so that they are independent of
batch composition as errors are; see `diffcls.scoring.scorer.Scorer`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.shared_layers import SharedLayers, tensors_of, with_tensors

PASSES_PER_BATCH = 4
"""Passes of shared layers that compute a whole batch: the fewer rows, the fewer are padding."""
MAX_BYTES = 64 << 20
"""Memory for outputs beyond those of one batch, which always have room. The least recently used ones
are dropped first, and recomputed bit for bit when they are needed again."""

Noisy = Callable[[Sequence[Tensor], Sequence[int]], tuple[Tensor, Tensor]]
"""Images (R times (C, h, w)) and draws (R,) -> x_t (R, C, h, w) and schedule index (R,)."""


class PrefixCache:
    """Outputs of shared layers on the device, by image and draw.

    Args:
        layers: the shared layers.
        cond: encoding of any prompts; the first one stands for all.
        noisy: inputs of the network for images and draws.
        batch_size: rows of a forward pass of the whole network.
        draws: N, the number of draws.
    """

    def __init__(
        self,
        layers: SharedLayers,
        cond: Conditioning,
        noisy: Noisy,
        batch_size: int,
        draws: int,
    ) -> None:
        self.batch_size = batch_size
        self._layers, self._noisy, self._draws = layers, noisy, draws
        self._size = -(-batch_size // PASSES_PER_BATCH)
        device = next(iter(cond.values())).device
        self._cond = cond.rows(torch.zeros(self._size, dtype=torch.int64, device=device))
        self._slots: OrderedDict[tuple[int, int], int] = OrderedDict()
        # the image of each slot, kept alive: its id stands for it in the keys
        self._images: dict[int, Tensor] = {}
        self._pool: _Pool | None = None

    def rows(
        self, images: Sequence[Tensor], draws: Sequence[int], rows: Tensor
    ) -> AbstractContextManager[None]:
        """Context in which the shared layers' outputs of these rows stand for the layers.

        Args:
            images: the image of each triple; equal ones are the same object.
            draws: its draw.
            rows: (B,) index of the triple in each row of the batch.
        """
        keys = [(id(image), draw) for image, draw in zip(images, draws, strict=True)]
        wanted = dict(zip(keys, zip(images, draws, strict=True), strict=True))
        for key in wanted:
            if key in self._slots:
                self._slots.move_to_end(key)
        missing = [pair for key, pair in wanted.items() if key not in self._slots]
        for first in range(0, len(missing), self._size):
            chunk = missing[first : first + self._size]
            if len(chunk) < self._size:
                chunk += self._following(wanted.values(), self._size - len(chunk))
            self._compute(chunk)
        assert self._pool is not None
        slots = torch.tensor([self._slots[key] for key in keys])[rows]
        return self._layers.given(self._pool.take(slots))

    def _following(
        self, wanted: Sequence[tuple[Tensor, int]], free_rows: int
    ) -> list[tuple[Tensor, int]]:
        """Speculative pairs for rows that would only be padding: the images' following draws."""
        last = {id(image): (image, 0) for image, _ in wanted}
        for image, draw in wanted:
            last[id(image)] = (image, max(draw, last[id(image)][1]))
        chosen: list[tuple[Tensor, int]] = []
        for ahead in range(1, free_rows + 1):
            for image, draw in last.values():
                pair = (image, draw + ahead)
                if pair[1] < self._draws and (id(image), pair[1]) not in self._slots:
                    chosen.append(pair)
            if len(chosen) >= free_rows:
                break
        return chosen[:free_rows]

    def _compute(self, pairs: Sequence[tuple[Tensor, int]]) -> None:
        """Compute and store the outputs of some pairs, at most one pass of them."""
        padded = [*pairs, *[pairs[-1]] * (self._size - len(pairs))]
        images, draws = zip(*padded, strict=True)
        x_t, index = self._noisy(images, draws)
        outputs = self._layers.compute(x_t, index, self._cond)
        if self._pool is None:
            self._pool = _Pool(outputs, self._capacity(outputs))
        slots = [self._slot(image, draw) for image, draw in pairs]
        self._pool.put(torch.tensor(slots), outputs)

    def _capacity(self, outputs: list[Any]) -> int:
        unique = {id(tensor): tensor for tensor in tensors_of(outputs)}.values()
        of_row = sum(tensor.numel() * tensor.element_size() for tensor in unique) // self._size
        # a batch's own rows and the speculative ones of its last pass
        return self.batch_size + self._size + MAX_BYTES // max(1, of_row)

    def _slot(self, image: Tensor, draw: int) -> int:
        assert self._pool is not None
        if len(self._slots) < self._pool.capacity:
            slot = len(self._slots)
        else:
            _, slot = self._slots.popitem(last=False)
        self._slots[id(image), draw] = slot
        self._images[slot] = image
        return slot


class _Pool:
    """Rows of the outputs of all shared layers, one block of memory for each tensor.

    Args:
        outputs: outputs of some rows, whose shapes and memory layouts are kept.
        capacity: number of rows.
    """

    def __init__(self, outputs: list[Any], capacity: int) -> None:
        self.capacity = capacity
        self._outputs = outputs  # for their structure
        tensors = tensors_of(outputs)
        # a block of a U-Net returns its last hidden state twice, alone and as a skip connection
        places = {id(tensor): place for place, tensor in reversed(list(enumerate(tensors)))}
        self._places = [places[id(tensor)] for tensor in tensors]
        # axes of a row from the outermost in memory to the innermost, as channels last
        self._axes = [
            (0, *sorted(range(1, tensor.ndim), key=tensor.stride, reverse=True))
            for tensor in tensors
        ]
        self._blocks = {
            place: tensors[place].new_empty(
                (capacity, *tensors[place].permute(self._axes[place]).shape[1:])
            )
            for place in set(self._places)
        }

    def put(self, slots: Tensor, outputs: list[Any]) -> None:
        """Write the first rows of some outputs into slots (R,)."""
        tensors = tensors_of(outputs)
        for place, block in self._blocks.items():
            rows = tensors[place].permute(self._axes[place])[: len(slots)]
            block.index_copy_(0, slots.to(block.device), rows)

    def take(self, slots: Tensor) -> list[Any]:
        """The outputs of the rows in slots (B,)."""
        rows = {}
        for place, block in self._blocks.items():
            inverse = sorted(range(block.ndim), key=self._axes[place].__getitem__)
            rows[place] = block.index_select(0, slots.to(block.device)).permute(inverse)
        tensors = iter([rows[place] for place in self._places])
        return [with_tensors(output, tensors) for output in self._outputs]
