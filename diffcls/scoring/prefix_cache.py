"""Prefix cache: the shared layers' outputs of each (image, draw), computed once for all classes.

The layers run in passes of a quarter of a batch. On many devices a row's bits do not depend on how
many rows a pass of these layers has; this is measured on the first batch, and where it does not
hold nothing is shared. So errors are the same to the bit, shared or not, and each batch may do what
is faster.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.models.shared_layers import SharedLayers, find_shared_layers, tensors_of, with_tensors
from diffcls.support.invariants import known

logger = logging.getLogger(__name__)

PASSES_PER_BATCH = 4
"""Passes of shared layers that compute a whole batch: the fewer rows, the fewer are padding."""
MAX_DRAWS_PER_BATCH = 0.5
"""Distinct (image, draw) per row of a batch above which sharing costs more than it saves."""
FIRST_BATCHES = 8
"""Batches before shared layers are looked for, which takes some passes: a short run has none."""

Pair = tuple[Tensor, int]
"""Image (C, h, w) and draw."""
Noisy = Callable[[Sequence[Tensor], Sequence[int]], tuple[Tensor, Tensor]]
"""Images (R times (C, h, w)) and draws (R,) -> x_t (R, C, h, w) and schedule index (R,)."""


class PrefixCache:
    """Outputs of shared layers on the device, by image and draw.

    It holds them for as many (image, draw) as a batch has rows, so it needs no more memory than the
    same layers in a forward pass; the least recently used ones are dropped first.

    Args:
        denoiser: the model.
        cond: encoding of any prompts; the first one stands for all.
        noisy: inputs of the network for images and draws.
        batch_size: B, rows of a forward pass of the whole network.
        draws: N, the number of draws.
    """

    def __init__(
        self, denoiser: Denoiser, cond: Conditioning, noisy: Noisy, batch_size: int, draws: int
    ) -> None:
        self.batch_size = batch_size
        self._denoiser, self._prompt, self._noisy, self._draws = denoiser, cond, noisy, draws
        self._dtype = denoiser.dtype
        self._size = -(-batch_size // PASSES_PER_BATCH)
        self._batches = 0
        self._compared = False
        self._layers: SharedLayers | None = None
        self._pool: _Pool | None = None
        self._slots: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._free = list(range(batch_size))
        # the image of each slot, kept alive: its id stands for it in the keys
        self._images: dict[int, Tensor] = {}

    def rows(
        self, images: Sequence[Tensor], draws: Sequence[int], rows: Tensor
    ) -> AbstractContextManager[None]:
        """Context of a forward pass, in which the shared layers are not computed if that is faster.

        Args:
            images: (M,) the image of each triple; equal ones are the same object.
            draws: (M,) its draw.
            rows: (B,) index of the triple in each row of the batch.
        """
        keys = [(id(image), draw) for image, draw in zip(images, draws, strict=True)]
        pairs = dict(zip(keys, zip(images, draws, strict=True), strict=True))
        missing = [pair for key, pair in pairs.items() if key not in self._slots]
        is_worthwhile = (
            len(pairs) <= MAX_DRAWS_PER_BATCH * self.batch_size and len(missing) <= self._size
        )
        # in another precision, for inputs that overflow, all layers are computed
        if not is_worthwhile or self._denoiser.dtype != self._dtype or not self._is_ready():
            return nullcontext()
        for key in pairs.keys() & self._slots.keys():
            self._slots.move_to_end(key)
        if missing:
            free_rows = self._size - len(missing)
            self._compute([*missing, *self._following(list(pairs.values()), free_rows)])
        layers, pool = known(self._layers), known(self._pool)
        outputs = pool.take(torch.tensor([self._slots[key] for key in keys])[rows])
        if not self._compared:
            if not self._is_exact(images, draws, rows, outputs):
                self._layers = None
                return nullcontext()
            self._compared = True
        return layers.given(outputs)

    def _is_ready(self) -> bool:
        """Whether the model has shared layers; they are looked for after the first batches."""
        self._batches += 1
        if self._batches == FIRST_BATCHES + 1:
            self._layers = find_shared_layers(self._denoiser, self._prompt)
        return self._layers is not None

    def _is_exact(
        self, images: Sequence[Tensor], draws: Sequence[int], rows: Tensor, outputs: list[Any]
    ) -> bool:
        """Whether outputs, computed in smaller passes, are those of a pass of the whole batch."""
        layers = known(self._layers)
        x_t, index = self._noisy([images[row] for row in rows], [draws[row] for row in rows])
        whole = layers.compute(x_t, index, self._first_prompt(self.batch_size))
        exact = all(
            # the layout in memory may decide by which kernel the next layer is computed
            torch.equal(one, other) and one.stride() == other.stride()
            for one, other in zip(tensors_of(outputs), tensors_of(whole), strict=True)
        )
        share = f"{100 * layers.share:.1f} % of a forward pass"
        logger.info("layers shared by all prompts: %s, %s", share, "exact" if exact else "not used")
        return exact

    def _first_prompt(self, rows: int) -> Conditioning:
        device = next(iter(self._prompt.values())).device
        return self._prompt.rows(torch.zeros(rows, dtype=torch.int64, device=device))

    def _following(self, pairs: Sequence[Pair], free_rows: int) -> list[Pair]:
        """Speculative pairs for rows that would only be padding: the images' following draws."""
        last = {id(image): (image, 0) for image, _ in pairs}
        for image, draw in pairs:
            last[id(image)] = (image, max(draw, last[id(image)][1]))
        chosen: list[Pair] = []
        for ahead in range(1, free_rows + 1):
            for image, draw in last.values():
                if draw + ahead < self._draws and (id(image), draw + ahead) not in self._slots:
                    chosen.append((image, draw + ahead))
            if len(chosen) >= free_rows:
                break
        return chosen[:free_rows]

    def _compute(self, pairs: Sequence[Pair]) -> None:
        """Compute and store the outputs of some pairs, at most one pass of them."""
        padded = [*pairs, *[pairs[-1]] * (self._size - len(pairs))]
        x_t, index = self._noisy(*zip(*padded, strict=True))
        outputs = known(self._layers).compute(x_t, index, self._first_prompt(self._size))
        if self._pool is None:
            self._pool = _Pool(outputs, self.batch_size)
        slots = self._free_slots(len(pairs))
        self._pool.put(torch.tensor(slots), outputs)
        # only now: an interruption may leave slots unused, but never with other rows than named
        for slot, (image, draw) in zip(slots, pairs, strict=True):
            self._slots[id(image), draw] = slot
            self._images[slot] = image
            self._free.remove(slot)

    def _free_slots(self, count: int) -> list[int]:
        """Slots without a pair, after the least recently used pairs are dropped if need be."""
        while len(self._free) < count:
            _, slot = self._slots.popitem(last=False)
            self._free.append(slot)
        return self._free[:count]


class _Pool:
    """Rows of the outputs of all shared layers, one block of memory for each tensor.

    Args:
        outputs: outputs of some rows, whose shapes and memory layouts are kept.
        capacity: number of rows.
    """

    def __init__(self, outputs: list[Any], capacity: int) -> None:
        self._outputs = outputs  # for their structure
        tensors = tensors_of(outputs)
        # a block of a U-Net returns its last hidden state twice, alone and as a skip connection
        places = {id(tensor): place for place, tensor in reversed(list(enumerate(tensors)))}
        self._places = [places[id(tensor)] for tensor in tensors]
        # axes of a row from the outermost in memory to the innermost, as in channels last
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
