"""Scorer: errors of (image, prompt, draw) requests of many images, in batches of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffcls.diffusion.draws import DrawPlan
from diffcls.diffusion.parameterization import BOUND_LOSSES, LOSSES, loss_weight
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.scoring.bound_error import BoundError
from diffcls.scoring.network_features import NetworkFeatures
from diffcls.scoring.noise_bank import NoiseBank
from diffcls.scoring.prefix_cache import PrefixCache
from diffcls.scoring.scoring import Scoring
from diffcls.support.errors import UsageError

GRADIENT_BATCH_PARTS = 8
"""Parts of a batch whose gradients are computed in sequence, so that they need no more memory."""

Draws: TypeAlias = Sequence[int]
Maps: TypeAlias = Tensor | None
"""Encoded maps (M, ...) of images, of a model with a ControlNet."""
Reader: TypeAlias = NetworkFeatures | None


class Scorer:
    """Measures errors ``w(t) · mean(loss(ε̂ − ε))`` of (image, prompt, draw) triples, or the bound.

    Every forward pass has the same shape, padded if fewer requests are left, so a triple's error is
    independent of batch composition to the bit (on a CPU, at one batch size and number of threads).

    Args:
        denoiser: the model.
        cond: encoding of the P prompts.
        plan: the draws; their indices must lie within the denoiser's schedule.
        scoring: loss and weighting.
        batch_size: B, rows of every forward pass.
        share_prefix: whether `errors` may compute the layers that no prompt affects once for all
            prompts of an (image, draw), where the errors are the same to the bit; see
            `diffcls.scoring.prefix_cache`.

    Raises:
        UsageError: for draws outside the schedule, a batch size below 1, or a loss of the bound for
            a model without a learned variance.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        cond: Conditioning,
        plan: DrawPlan,
        scoring: Scoring | None = None,
        batch_size: int = 64,
        share_prefix: bool = True,
    ) -> None:
        if batch_size < 1:
            raise UsageError("batch size out of range", given=batch_size, allowed="1 or more")
        length = len(denoiser.schedule)
        if plan.indices.min() < 0 or plan.indices.max() >= length:
            raise UsageError("draws outside the schedule", allowed=f"indices 0 to {length - 1}")
        self.denoiser, self.cond, self.plan = denoiser, cond, plan
        self.scoring = scoring or Scoring()
        self.batch_size = batch_size
        self.noise = NoiseBank(plan, denoiser.sample_shape, denoiser.device)
        loss = self.scoring.loss
        self._elementwise = getattr(F, LOSSES.get(loss, LOSSES["l2"]))
        self._bound = BoundError(denoiser, plan.indices, loss) if loss in BOUND_LOSSES else None
        self._constants(plan)
        self.share_prefix = share_prefix
        self._prefixes: PrefixCache | None = None

    def _constants(self, plan: DrawPlan) -> None:
        """(N,) constants of each draw, computed in float64 and then moved."""
        schedule, row = self.denoiser.schedule, self.denoiser.parameterization
        alpha, sigma = schedule.alpha[plan.indices], schedule.sigma[plan.indices]
        weight = loss_weight(self.scoring.weighting, schedule)[plan.indices]
        a, b = row.coefficients(alpha, sigma)
        device = self.denoiser.device
        self._index = torch.tensor(plan.indices, device=device)
        self._weight = torch.tensor(weight, dtype=torch.float32, device=device)
        # columns: alpha, sigma, a, b, α/det
        columns = np.stack([alpha, sigma, a, b, row.noise_scale(alpha, sigma)], axis=1)
        self._gains = torch.tensor(columns, dtype=torch.float32, device=device)

    @torch.inference_mode()
    def errors(
        self, x0: Tensor | Sequence[Tensor], prompts: Tensor, draws: Draws, control: Maps = None
    ) -> Tensor:
        """Errors of at most B triples.

        Args:
            x0: (M, C, h, w) float32, M <= B: the image of each triple, as one tensor or as M of
                them; a prefix is shared among triples whose image is the same object.
            prompts: (M,) index of its prompt.
            draws: (M,) index of its draw.
            control: (M, ...) encoded map of its image, of a model with a ControlNet.

        Returns:
            (M,) float32, on the denoiser's device.

        Raises:
            UsageError: for no triple, or more than B.
        """
        rows = self._rows(len(prompts))
        cond = self.cond.rows(prompts[rows].to(self.denoiser.device))
        images = list(x0)
        # a ControlNet goes before all layers of the network
        sharing = self._shared(images, draws, rows) if control is None else nullcontext()
        with sharing:
            errors = self._measure(torch.stack(images), cond, draws, control=control)
        return errors[: len(prompts)]

    @torch.inference_mode()
    def error_maps(self, x0: Tensor, prompts: Tensor, draws: Draws) -> Tensor:
        """Errors at each position: the mean over channels instead of C·h·w.

        Args:
            x0, prompts, draws: as `errors`.

        Returns:
            (M, h, w) float32, on the denoiser's device; the mean over h·w is the error.

        Raises:
            UsageError: as `errors`.
        """
        rows = self._rows(len(prompts))
        cond = self.cond.rows(prompts[rows].to(self.denoiser.device))
        terms, weight = self._terms(x0, cond, draws)
        maps: Tensor = sum(term.mean(dim=1) for term in terms) * weight[:, None, None]
        return maps[: len(prompts)]

    @torch.inference_mode()
    def errors_at(
        self, x0: Tensor, points: Conditioning, draws: Draws, control: Maps = None
    ) -> Tensor:
        """Errors at any points in the space of embeddings.

        Args:
            x0, draws, control: as `errors`.
            points: of M rows, on the denoiser's device.
        """
        rows = self._rows(points.count).to(self.denoiser.device)
        return self._measure(x0, points.rows(rows), draws, control=control)[: points.count]

    def gradients(
        self, x0: Tensor, points: Conditioning, draws: Draws, control: Maps = None
    ) -> tuple[Tensor, Conditioning]:
        """Errors at points and their gradients there, by a forward and a backward pass.

        Args:
            x0, points, draws, control: as `errors_at`.

        Returns:
            errors (M,), and for each floating tensor of `points` ∂e/∂c (M, ...), float32.

        Raises:
            UsageError: as `errors`.
        """
        errors, gradients, _ = self._expansions(x0, points, draws, control, None)
        return errors, gradients

    def gradients_and_features(
        self, x0: Tensor, points: Conditioning, draws: Draws, control: Maps = None
    ) -> tuple[Tensor, Conditioning, Tensor]:
        """As `gradients`, and the network's features in the same forward pass, (M, F) float32."""
        return self._expansions(x0, points, draws, control, self._features)

    @cached_property
    def _features(self) -> NetworkFeatures:
        return NetworkFeatures(self.denoiser.network)

    def _expansions(
        self, x0: Tensor, points: Conditioning, draws: Draws, control: Maps, reader: Reader
    ) -> tuple[Tensor, Conditioning, Tensor]:
        parts = []
        self._rows(points.count)  # raises for more than a batch
        # a backward pass keeps all activations in memory: a part of a batch at a time
        size = -(-self.batch_size // GRADIENT_BATCH_PARTS)
        for first in range(0, points.count, size):
            here = slice(first, first + size)
            at = Conditioning({name: tensor[here] for name, tensor in points.items()})
            maps = None if control is None else control[here]
            parts.append(self._expansions_of_part(x0[here], at, draws[here], maps, size, reader))
        errors, gradients, features = zip(*parts, strict=True)
        joined = {name: torch.cat([part[name] for part in gradients]) for name in gradients[0]}
        return torch.cat(errors), Conditioning(joined), torch.cat(features)

    def _expansions_of_part(
        self,
        x0: Tensor,
        points: Conditioning,
        draws: Draws,
        control: Maps,
        shape: int,
        reader: Reader,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """`_expansions` of at most `shape` triples, padded to that."""
        count = points.count
        rows = self._rows(count, shape)
        with torch.inference_mode(False), torch.enable_grad():
            # copies: inference tensors cannot be differentiated
            padded = {k: v[rows.to(v.device)] for k, v in points.items()}
            # in single precision, or gradients would be rounded to the dtype of the prompts
            leaves = {
                k: v.float().requires_grad_() for k, v in padded.items() if v.is_floating_point()
            }
            with reader.collected() if reader else nullcontext():
                at = Conditioning({**padded, **leaves})
                errors = self._measure(x0, at, draws, shape, reader, control)
            # the gradient of a mean over C·h·w values is too small for half precision, so the
            # backward pass starts from the sum
            size = float(x0[0].numel())
            of_sum = torch.autograd.grad(errors.sum() * size, list(leaves.values()))
        gradients = {k: g[:count] / size for k, g in zip(leaves, of_sum, strict=True)}
        features = reader.result() if reader else errors.new_empty(shape, 0)
        return errors.detach()[:count], gradients, features[:count]

    def _shared(
        self, images: Sequence[Tensor], draws: Draws, rows: Tensor
    ) -> AbstractContextManager[None]:
        """Context in which the network's shared layers, if any, are not computed per prompt."""
        if not self.share_prefix:
            return nullcontext()
        if self._prefixes is None or self._prefixes.batch_size != self.batch_size:
            self._prefixes = PrefixCache(
                self.denoiser, self.cond, self._inputs, self.batch_size, len(self.plan)
            )
        return self._prefixes.rows(images, draws, rows)

    def _rows(self, count: int, shape: int | None = None) -> Tensor:
        """(B,) index of the triple in each row of the batch, padded with the last one."""
        size = self.batch_size if shape is None else shape
        if not 1 <= count <= size:
            raise UsageError("triples out of range", given=count, allowed=f"1 to {size}")
        return torch.arange(size).clamp(max=count - 1)

    def _measure(
        self,
        x0: Tensor,
        cond: Conditioning,
        draws: Draws,
        shape: int | None = None,
        reader: Reader = None,
        control: Maps = None,
    ) -> Tensor:
        """(B,) errors; x0, draws and control are padded here, `cond` has `shape` rows (None: B)."""
        terms, weight = self._terms(x0, cond, draws, shape, reader, control)
        error: Tensor = sum(term.mean(dim=(1, 2, 3)) for term in terms) * weight
        return error

    def _terms(
        self,
        x0: Tensor,
        cond: Conditioning,
        draws: Draws,
        shape: int | None = None,
        reader: Reader = None,
        control: Maps = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Terms (B, C, h, w) of the errors and the weight (B,) of each row; see `_measure`."""
        rows = self._rows(len(draws), shape)
        cond = cond.with_control(None if control is None else control[rows.to(control.device)])
        x_t, x0, noise, columns = self._noisy(x0, draws, rows)
        index = self._index[columns]
        _, _, a, b, to_noise = self._gains[columns].T.reshape(5, -1, 1, 1, 1)
        if self._bound is not None:
            target = a * x0 + b * noise
            terms = self._bound.terms(x_t, index, cond, columns, target, to_noise)
            return terms, self._weight[columns]
        out = self.denoiser.predict(x_t.to(self.denoiser.dtype), index, cond)
        if reader is not None:
            reader.keep_prediction(out)
        # ε − ε̂ = (α/det)·(target − out), target = a·x0 + b·ε
        target = to_noise * (a * x0 + b * noise)
        loss = self._elementwise(to_noise * out.float(), target, reduction="none")
        return [loss], self._weight[columns]

    def _noisy(
        self, x0: Tensor, draws: Draws, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_t, x0 and noise (B, C, h, w) and draws (B,) of the triples in `rows`."""
        device = self.denoiser.device
        noise = torch.stack([self.noise[j] for j in draws])[rows.to(device)]
        x0, columns = (v[rows.to(v.device)].to(device) for v in (x0, torch.tensor(draws)))
        alpha, sigma = self._gains[columns, :2].T.reshape(2, -1, 1, 1, 1)
        # x_t = α·x0 + σ·ε, in float32 whatever the network's dtype
        return alpha * x0 + sigma * noise, x0, noise, columns

    def _inputs(self, images: Sequence[Tensor], draws: Draws) -> tuple[Tensor, Tensor]:
        """Noisy images (R, C, h, w) in the network's dtype and schedule indices (R,)."""
        x_t, *_, columns = self._noisy(torch.stack(list(images)), draws, torch.arange(len(draws)))
        return x_t.to(self.denoiser.dtype), self._index[columns]
