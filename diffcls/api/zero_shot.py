"""Zero-shot image classifier, called as transformers' pipeline of that name."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.api import control as controls
from diffcls.api import load_arguments
from diffcls.api.background import Background, background_of, decision
from diffcls.api.call_arguments import images_of, labels_of, rows_of, templates_of
from diffcls.api.counterfactuals import WithCounterfactuals
from diffcls.api.image_scores import Decision, prediction, score_chunk, score_matrix
from diffcls.api.inputs import as_batch, as_stream
from diffcls.api.prediction_stream import Prediction, PredictionStream, prediction_stream
from diffcls.api.prompt_scorer import DEFAULT_ROWS, TEMPLATE
from diffcls.api.remote_images import PUBLIC_ONLY, web_access
from diffcls.models.placement import placed
from diffcls.search import SEARCHES
from diffcls.support.errors import ModelError

__all__ = ["PredictionStream", "ZeroShotImageClassifier", "score_matrix"]

if TYPE_CHECKING:
    import torch

    from diffcls.metrics.rejection import Calibration


class ZeroShotImageClassifier(WithCounterfactuals):
    """A zero-shot image classifier from a diffusion model.

    It scores images against any labels::

        classifier = ZeroShotImageClassifier.from_pretrained("digits")
        classifier(image, candidate_labels=["three", "seven"])
        # [{"label": "seven", "score": 0.98}, {"label": "three", "score": 0.02}]

    It may be used by several threads, one at a time scores. A classifier `from_pretrained` is
    pickled as the arguments of that call, and loads its model again; others with all their weights.

    Args:
        denoiser: the model; see `from_pretrained` for a name or a path.
        search: racing, paper, exhaustive, halving or gradient; propose with `proposer`.
        search_options: options of that search, such as ``draws=50``.
        seed: seed of the noise.
        batch_size: rows of every forward pass of the model.

    Attributes:
        hypothesis_template: template of the calls that give none.
        web_access: limits for images from the web, in the calls that give none.

    Raises:
        UsageError: for an unknown search, or an option that it does not have.
    """

    task = load_arguments.TASK

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        device: str | int | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        search: str = "racing",
        seed: int = 0,
        batch_size: int = DEFAULT_ROWS,
        img_size: int | None = None,
        *,
        revision: str | None = None,
        torch_dtype: str | torch.dtype | None = None,
        hypothesis_template: str | Sequence[str] = TEMPLATE,
        timeout: float | None = None,
        allow_private_addresses: bool = False,
        **other: Any,
    ) -> ZeroShotImageClassifier:
        """A classifier on a bundled model or a diffusers pipeline folder.

        Args:
            name_or_path: a bundled or short name, a folder, or an id on the Hub (``digits``); it
                may be given as ``model=``, too, as in transformers' ``pipeline(task, model=…)``.
            device: ``auto`` (default), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; a
                ``torch.device``; or −1 for the CPU, N for the accelerator N.
            dtype: ``float32`` (default on a CPU), ``bfloat16`` (elsewhere) or ``float16``.
            search, seed, batch_size: see the class.
            img_size: side of the images in pixels; default: the model's training size.
            revision: branch, tag or commit of a model on the Hub.
            torch_dtype: older name of `dtype`.
            hypothesis_template, timeout, allow_private_addresses: defaults of the call.
            other: options of the search, such as ``draws=50``, and those of `diffcls.api.control`.

        Raises:
            UsageError: for an argument that is unknown or has no meaning here, with what to do.
            UsageError, ModelError: see `diffcls.models.loading.load`.
        """
        # whatever is wrong with the arguments is refused before anything heavy is loaded
        SEARCHES[search]
        name = load_arguments.model_name(name_or_path, revision, other)
        control = controls.control_of(name, other)
        options = load_arguments.search_options(search, other)
        templates = templates_of(hypothesis_template)
        access = web_access(PUBLIC_ONLY, timeout, allow_private_addresses)
        source: dict[str, Any] = {"search": search, "seed": seed}
        source["batch_size"] = rows_of(batch_size) or DEFAULT_ROWS
        from diffcls.models import devices, loading

        precision = load_arguments.dtype_of(dtype, torch_dtype)
        place = devices.resolve_device(load_arguments.device_name(device))
        denoiser = controls.steered(loading.load(name, place, precision, img_size), control)
        made = cls(denoiser, **source, search_options=options)
        made.hypothesis_template, made.web_access = templates, access
        local = name not in loading.bundled() and Path(name).exists()
        name = str(Path(name).absolute()) if local else name
        source |= {"name_or_path": name, "device": device, "dtype": precision, **options, **control}
        source |= {"img_size": img_size, "hypothesis_template": templates, **vars(access)}
        made._start(source)
        return made

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.denoiser.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""
        return self.denoiser.dtype

    def to(
        self,
        device: str | int | torch.device | torch.dtype | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
    ) -> ZeroShotImageClassifier:
        """Move the model to a device, or to another precision, and return this classifier.

        A model `from_pretrained` is loaded again for another precision, so that its weights are
        rounded once. A pipeline that a person holds is copied, and theirs stays as it is.

        Args:
            device: see `from_pretrained`; or a ``torch.dtype``, as ``torch.nn.Module.to`` takes it.
            dtype, torch_dtype: see `from_pretrained`.

        Raises:
            UsageError: for an unknown device or precision, or one that is not available.
            ModelError: if the model cannot be moved, or has changed since it was loaded.
        """
        with self._lock:
            self._follow()
            place, precision = load_arguments.placement(self.denoiser, device, dtype, torch_dtype)
            if place == str(self.device) and precision == self.dtype:
                return self
            base, self._methods = self._base, {}
            if self._followed is not None:
                self._use(self._followed.move(place, precision))
            elif self._source is None:
                self._use(placed(base, place, precision, shared=True))
            else:
                source = {**self._source, "device": place, "dtype": precision}
                same = precision == self.dtype
                self._use(
                    placed(base, place, precision)
                    if same
                    else self._loaded(source, base.card.revision).denoiser
                )
                self._source = source
        return self

    def __repr__(self) -> str:
        card, search = self.denoiser.card, type(self.search).__name__.lower()
        return (
            f"{type(self).__name__}(model={card.name!r}, search={search!r}, "
            f"device={str(self.device)!r}, dtype={str(self.dtype).removeprefix('torch.')!r}, "
            f"img_size={self.denoiser.image_size}, seed={self.seed}, batch_size={self.batch_size})"
        )

    def __getstate__(self) -> dict[str, Any]:
        self._follow()
        if self._source is not None:
            # attributes that have been set since then
            own = {"seed": self.seed, "batch_size": self.batch_size, **vars(self.web_access)}
            source = {**self._source, **own, "hypothesis_template": self.hypothesis_template}
            known = {"source": source, "revision": self._base.card.revision}
            return known | {"concepts": self._concepts}
        unsaved = ("_lock", "_methods", "_source", "_followed", "_base")
        state = {k: v for k, v in vars(self).items() if k not in unsaved}
        # as bytes: tokenizers have no pickle of the oldest protocols
        return {**state, "denoiser": pickle.dumps(self._base)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "source" not in state:
            # part of a pickle that is being opened already
            vars(self).update(state, denoiser=pickle.loads(state["denoiser"]))  # noqa: S301
            self._start()
        else:
            vars(self).update(vars(self._loaded(state["source"], state["revision"])))
            self._concepts = state.get("concepts", ())
        self._use(self._base)

    @classmethod
    def _loaded(cls, source: dict[str, Any], revision: str) -> ZeroShotImageClassifier:
        """The classifier of earlier arguments, whose model must not have changed."""
        loaded = cls.from_pretrained(**source)
        card = loaded.denoiser.card
        if card.revision != revision:
            raise ModelError(
                "the model of a classifier has changed since it was loaded",
                given=f"{card.name}, revision {card.revision}",
                allowed=f"revision {revision}",
                todo="restore that model, or make the classifier again",
            )
        return loaded

    def __call__(
        self,
        images: Any = None,
        candidate_labels: Iterable[str] | None = None,
        hypothesis_template: str | Sequence[str] | None = None,
        timeout: float | None = None,
        *,
        batch_size: int | None = None,
        allow_private_addresses: bool | None = None,
        reject: bool | Calibration = False,
        multi_label: bool = False,
        threshold: float = 0.0,
        background_prompt: str = "",
        **other: Any,
    ) -> Prediction | list[Prediction] | PredictionStream:
        """The posterior over the labels, best first.

        Args:
            images: a PIL image, a path, an ``http(s)://`` address, base64 text or a data URI, bytes
                or a binary file, ``{"bytes": …, "path": …}``, a row of a data set with a column
                ``image``, or an array (H, W) or (H, W, C), or tensor (C, H, W), of integers in
                0–255 or floats in 0–1. Or several: a list, an array of four dimensions, a pandas
                series, a column of `datasets`. Or a stream: a generator or iterator, a data set of
                `datasets` or torch. The name ``image`` is accepted, too.
            candidate_labels: two or more different texts.
            hypothesis_template: text with one ``{}``; of several, the errors are averaged.
            timeout: time to fetch one image from the web, in seconds; default: 10.
            batch_size: rows of every forward pass, in this call; on a stream, this number of images
                is read ahead at most, and never more than 32.
            allow_private_addresses: whether images may be fetched from private networks.
            reject: add the label "none of these"; or its calibration, see `diffcls.api.background`.
            multi_label: score each label by itself, so that none, one or several reach 0.5.
            threshold: of `multi_label`, see `diffcls.api.background.fit_label_threshold`.
            background_prompt: prompt that stands for everything else; default: the empty one.

        Returns:
            ``[{"label": text, "score": p}, …]`` with the p summing to 1; for several images, a list
            of those, in their order; for a stream, an iterator over those, computed on demand.

        Raises:
            UsageError: for fewer than two labels, a label twice, a template without ``{}``, or an
                argument that is unknown or has no meaning here, with what to do.
            DataError: without images, or for an image that cannot be found or read.
        """
        images = images_of(images, other)
        labels, rows = labels_of(candidate_labels), rows_of(batch_size)
        access = web_access(self.web_access, timeout, allow_private_addresses)
        background = background_of(reject, multi_label, threshold, background_prompt)
        decide = partial(self._decision, labels, self._templates(hypothesis_template), background)
        stream = as_stream(images)
        if stream is not None:
            score = partial(score_chunk, self._current(decide), access, rows, self._lock)
            answers = prediction_stream(stream, score, rows or self.batch_size)
            return list(answers) if stream.is_column else answers
        batch, several = as_batch(images)
        with self._lock:  # no other thread moves the model in between
            method, predict = decide()
            results = self.scores(method, batch, access, rows)
        predictions = [predict(result) for result in results]
        return predictions if several else predictions[0]

    def _current(self, decide: Callable[[], Decision]) -> Callable[[], Decision]:
        """The decision of a stream, made again where the model was moved or changed meanwhile."""
        decided = decide()

        def current() -> Decision:
            nonlocal decided
            self._follow()
            if decided[0].denoiser is not self.denoiser:
                decided = decide()
            return decided

        return current

    def _decision(
        self, labels: tuple[str, ...], templates: tuple[str, ...], background: Background | None
    ) -> Decision:
        """The method of a call, and its answer from the scores of an image."""
        if background is not None:
            return decision(self, labels, templates, background)
        method = self._method(labels, templates)
        return method, partial(prediction, method)
