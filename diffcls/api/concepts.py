"""Classifiers with learned concepts: classes that a few images define, under a new word."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffcls.api.image_openers import opener
from diffcls.api.inputs import as_batch
from diffcls.support.errors import ModelError, UsageError
from diffcls.support.options import read

if TYPE_CHECKING:
    from diffcls.api.remote_images import WebAccess
    from diffcls.concepts.task import Learned
    from diffcls.models.denoiser import Denoiser


class WithConcepts(ABC):
    """Part of `diffcls.ZeroShotImageClassifier`: its learned concepts."""

    denoiser: Denoiser
    web_access: WebAccess
    _base: Denoiser
    _lock: threading.RLock
    # of the class: pickles of earlier versions have none of their own
    _concepts: tuple[Learned, ...] = ()

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names of the learned concepts, as prompts contain them."""
        return tuple(one.phrase for one in self._concepts)

    def add_concept(
        self,
        images: Any,
        name: str,
        *,
        init: str | None = None,
        method: str = "textual",
        against: Sequence[str] | None = None,
        vectors: int = 4,
        rank: int | None = None,
        lora_layers: str | None = None,
        prior_images: int | None = None,
        augment: int = 0,
        steps: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        template: Sequence[str] | None = None,
        seed: int = 0,
        quiet: bool = True,
    ) -> Learned:
        """Learn a class from a few images; its name can be used in labels and templates then.

        The concept is part of this classifier only: the model that it was loaded from, or the
        pipeline that it follows, stays as it is::

            classifier.add_concept(images, "<my-mug>", init="mug")
            classifier(photo, ["<my-mug>", "cup", "bowl"])

        Args:
            images: one or more images of the class, in any form that a call takes.
            name: a new word in angle brackets, which the model does not have.
            init: words that the learning starts from; default: the mean of all words.
            method: ``textual``: textual inversion (Gal et al. 2023), by the model's training loss;
                ``discriminative``: then by the classifier's posterior `against` other classes; or
                ``dreambooth``: low-rank changes of the network (Ruiz et al. 2023), which other
                labels share. Its class is named as ``"NAME INIT"``, the result's ``phrase``.
            against: names of these classes; ``dreambooth`` keeps them near what they were,
                and the new one apart from them.
            vectors: number of embeddings of the new word.
            rank, lora_layers, prior_images, augment: see
                `diffcls.concepts.options.ConceptSettings`.
            steps, batch_size, learning_rate, template, seed: see there.
            quiet: no progress bar.

        Returns:
            What was learned: ``file`` is the name and ``tensors`` the content of a safetensors file
            that diffusers' ``load_textual_inversion`` reads.

        Raises:
            UsageError: for a name that is no new word or that of an earlier concept, and for
                settings that do not fit together.
            DataError: for an image that cannot be read.
            ModelError: for a model that reads no text, or a family that cannot have new words.
        """
        from diffcls.concepts.images import in_memory
        from diffcls.concepts.learn import learn
        from diffcls.concepts.options import ConceptSettings

        given: dict[str, Any] = {
            "init": init,
            "against": against,
            "steps": steps,
            "batch_size": batch_size,
        }
        given |= {"learning_rate": learning_rate, "template": template}
        given |= {"rank": rank, "lora_layers": lora_layers}
        given |= {"prior_images": prior_images, "augment": augment}
        chosen = {key: value for key, value in given.items() if value is not None}
        settings = read(
            ConceptSettings,
            {"name": name, "method": method, "vectors": vectors, "seed": seed, **chosen},
        )
        settings.check()
        self._check_name(name)
        batch, _ = as_batch(images)
        openers = [opener(one, f"image {i}", self.web_access) for i, one in enumerate(batch)]
        with self._lock:
            self._follow()
            # a view of its own: an interrupted learning leaves no half-learned word behind
            denoiser = own_view(self.denoiser)
            x0 = in_memory(openers).encode(denoiser, settings.augment, settings.seed)
            learned = learn(denoiser, settings, x0, quiet=quiet)
            self._concepts = (*self._concepts, learned)
            self._use(self._base)
        return learned

    def _check_name(self, name: str) -> None:
        """Raise UsageError for the name of an earlier concept, with which this one would mix."""
        if name in [phrase.partition(" ")[0] for phrase in self.concepts]:
            raise UsageError(
                "the classifier has a concept of this name already",
                given=name,
                allowed=f"another name than {', '.join(self.concepts)}",
            )

    def _with_concepts(self, base: Denoiser) -> Denoiser:
        """A model with the learned concepts; itself without any."""
        if not self._concepts:
            return base
        denoiser, added = own_view(base), [base.card.revision]
        for one in self._concepts:
            one.add_to(denoiser)
            added.append(one.revision())
        denoiser.card = replace(base.card, revision=" + ".join(added))
        return denoiser

    @abstractmethod
    def _follow(self) -> None:
        """Use the weights that a pipeline in memory has now."""

    @abstractmethod
    def _use(self, base: Denoiser) -> None:
        """Score with another model, to which the learned concepts are added."""


def own_view(denoiser: Denoiser) -> Any:
    """Another denoiser on the weights of one, with tokenizers and tables of words of its own.

    Raises:
        UsageError: for an analytic model, which has no pipeline, and one with a ControlNet.
        ModelError: for a model that cannot have new words.
    """
    from diffcls.models.concepts import check_family
    from diffcls.models.control import plain
    from diffcls.models.in_memory import denoiser_of

    pipeline = getattr(denoiser, "pipeline", None)
    if pipeline is None:
        raise UsageError("a concept needs a diffusion model of texts", given=denoiser.card.name)
    if plain(denoiser) is not denoiser:
        raise UsageError(
            "a concept cannot be added to a model with a ControlNet",
            given=denoiser.card.name,
            todo="add it to a classifier without `control`",
        )
    check_family(pipeline)
    try:
        view = denoiser_of(
            pipeline, denoiser.device, denoiser.dtype, denoiser.image_size, identify=False
        )
    except UsageError as error:
        raise ModelError(f"a concept cannot be added to this model ({error})") from error
    view.card = denoiser.card
    return view
