"""What every classifier in the harness looks like, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diffcls.classifiers.options import ClassifierOptions
from diffcls.data.catalog import DatasetSpec
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import ModelCard
from diffcls.scoring.class_scores import ClassScores


class Method(Protocol):
    """A classifier with its candidate classes, ready for images.

    Attributes:
        posterior_scale: the class posterior is ``softmax(posterior_scale * scores)``; None where
            scores are no log-likelihoods.
        batch_size: rows of a forward; it may be set before `classify` is called.
    """

    batch_size: int

    @property
    def posterior_scale(self) -> float | None: ...

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """The answer for each image, in order of completion.

        Takes images as it has room for them, so a stream of any length needs bounded memory. An
        image that cannot be read becomes a `ClassScores` with its error; the others go on.
        """

    def seconds_a_batch(self) -> float:
        """Time of one full forward, measured now."""

    def check(self, items: Sequence[Item]) -> None:
        """A self-test on a few images, in seconds.

        Raises:
            ModelError: where the model is not what it says it is.
        """


@dataclass(frozen=True)
class Built:
    """A method made ready from a person's options, and what its row will say.

    Args:
        method: the classifier.
        card: of its model.
        prompts: what it is asked: the candidates' prompts, or their ids where it reads no text.
        search: of a method that searches, else empty.
        search_options: of the search, or whatever else of the method defines its numbers.
        img_size: side of the images, in pixels.
        loss, dtype, device: as resolved.
        most_evaluations: evaluations an image at most.
        timesteps: (N,) what the network is told at each draw; empty for other methods.
        allocation: of its draws over time, see `diffcls.diffusion.timestep_allocation`.
        draws: of a method that searches: ``indices`` (N,) of its draws into the schedule, and the
            schedule's ``alpha`` and ``sigma`` (T,).
        noise: hash of the noise file, or empty.
        supervision: what the method has seen, where the model's card does not tell it.
        setting: what of it the leaderboard names; None: the search options that were given.
    """

    method: Method
    card: ModelCard
    prompts: PromptSet
    search: str
    search_options: Mapping[str, Any]
    img_size: int
    loss: str
    dtype: str
    device: str
    most_evaluations: int
    timesteps: NDArray[np.float64]
    noise: str = ""
    supervision: str | None = None
    setting: str | None = None
    allocation: str = "even"
    draws: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """What defines the numbers of a method, known before its model is loaded.

    Its fields are those of `Built` of the same names; only ``img_size`` is missing, which may be
    the model's own.
    """

    card: ModelCard
    prompts: PromptSet
    search: str
    search_options: Mapping[str, Any]
    loss: str
    dtype: str
    noise: str = ""
    supervision: str | None = None
    setting: str | None = None
    allocation: str = "even"


@dataclass(frozen=True)
class MethodKind:
    """One row of the table of methods.

    Args:
        check: refuses impossible options of a data set before anything heavy is loaded.
        build: (options, data set, prompts) -> the method, ready for images.
        describe: (options, data set, prompts) -> the method's description, without torch; None
            where it cannot be known before `build`. It allows a finished run to answer at once.
    """

    check: Callable[[ClassifierOptions, DatasetSpec], None]
    build: Callable[[ClassifierOptions, DatasetSpec, PromptSet], Built]
    describe: Callable[[ClassifierOptions, DatasetSpec, PromptSet], Description | None] = (
        lambda *_: None
    )
