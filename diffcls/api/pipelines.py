"""Classifiers on diffusers pipelines in memory, whose weights they follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from diffcls.api import load_arguments
from diffcls.api.concepts import WithConcepts
from diffcls.models.model_argument import is_name
from diffcls.search import SEARCHES
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    import torch

    from diffcls.models.denoiser import Denoiser
    from diffcls.models.in_memory import Followed


class OnPipelines(WithConcepts):
    """Part of `diffcls.ZeroShotImageClassifier`: its constructor from a pipeline in memory."""

    _methods: dict[Any, Any]
    _followed: Followed | None

    @classmethod
    def from_pipeline(
        cls,
        pipeline: Any,
        device: str | int | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        search: str = "racing",
        seed: int = 0,
        batch_size: int = 64,
        img_size: int | None = None,
        class_names: Sequence[str] = (),
        **search_options: Any,
    ) -> Self:
        """A classifier on a diffusers pipeline in memory, which stays as it is.

        Nothing is saved, and nothing in the pipeline changes: weights, precision, device, train or
        eval mode, hooks, scheduler. Each call uses the weights that the pipeline has then;
        ``denoiser.card.revision`` is their hash.

        Args:
            pipeline: an object of a supported class, such as ``StableDiffusionPipeline``.
            device, dtype: see `from_pretrained`; default: the pipeline's own.
            search, seed, batch_size: see the class.
            img_size: side of the images in pixels; default: the model's training size.
            class_names: names by id of the classes of a class-conditional model, if it has none.
            search_options: options of the search, such as ``draws=50``.

        Raises:
            UsageError, ModelError: see `diffcls.models.in_memory.denoiser_of`.
        """
        SEARCHES[search]
        if is_name(pipeline):
            raise UsageError(
                "from_pipeline takes a pipeline object",
                given=pipeline,
                todo="open a name or path with from_pretrained",
            )
        options = load_arguments.search_options(search, search_options)
        from diffcls.models import devices
        from diffcls.models.in_memory import Followed

        dtype, name = load_arguments.dtype_of(dtype), load_arguments.device_name(device)
        place = None if name in (None, "auto") else devices.resolve_device(name)
        followed = Followed(
            pipeline, device=place, dtype=dtype, img_size=img_size, labels=tuple(class_names)
        )
        build: Any = cls
        made: Self = build(
            followed.denoiser(),
            search=search,
            search_options=options,
            seed=seed,
            batch_size=batch_size,
        )
        made._followed = followed
        return made

    def _follow(self) -> None:
        """Use the weights that a pipeline in memory has now."""
        if self._followed is not None:
            current = self._followed.denoiser()
            if current is not self._base:
                self._use(current)

    def _use(self, base: Denoiser) -> None:
        """Score with another model, to which the learned concepts are added."""
        self._base, self.denoiser, self._methods = base, self._with_concepts(base), {}
