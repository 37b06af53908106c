"""Method protocol: the interface of every classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diffcls.classifiers.fitting import Fitting
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
            scores are not log-likelihoods.
        batch_size: rows of a forward pass; it may be set before `classify` is called.
    """

    batch_size: int

    @property
    def posterior_scale(self) -> float | None: ...

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """Scores of each image, in order of completion.

        Images are read as capacity allows, so a stream of any length needs bounded memory. An image
        that cannot be read becomes a `ClassScores` with its error; the others are not affected.
        """

    def seconds_per_batch(self) -> float:
        """Time of one full forward pass in seconds, measured now."""

    def check(self, items: Sequence[Item]) -> None:
        """A self-test on a few images, in seconds.

        Raises:
            ModelError: if the model does not predict what its config declares.
        """


@dataclass(frozen=True)
class Built:
    """A method built from options, and the facts for its leaderboard row.

    The defaults are those of a classifier without a denoiser.

    Args:
        method: the classifier.
        card: card of its model.
        prompts: prompts of the candidates; class ids for a class-conditional model.
        search: name of the search; empty for a method without one.
        search_options: options of the search, or all other options that define the numbers.
        img_size: side of the images, in pixels.
        loss, dtype, device: values in effect, defaults resolved.
        most_evaluations: maximum evaluations per image.
        timesteps: (N,) timestep input of the network at each draw; empty for other methods.
        allocation: distribution of its draws over timesteps, see
            `diffcls.diffusion.timestep_allocation`.
        interpolation: the model's resizing of images, in effect unless another one is given.
        rejection: of ``--reject``: its settings as JSON, see `diffcls.classifiers.rejection`.
        class_prior: of ``--class-bias`` and ``--combine``: what its fit depends on, as JSON, see
            `diffcls.classifiers.class_prior`.
        text_defaults: what the model's pipeline adds to every prompt, as JSON.
        control: of ``--control``: kind, ControlNet and its revision, as JSON, see
            `diffcls.classifiers.control_options`.
        vae_tiling: whether images are encoded tile by tile.
        draws: for a method with a search: ``indices`` (N,) of its draws into the schedule, and the
            schedule's ``alpha`` and ``sigma`` (T,).
        fitting: what the method fits before its first image; None if nothing.
        noise: hash of the noise file, or empty.
        supervision: training data of the method, if the model's card does not state it.
        setting: text of the leaderboard's column; None: the search options that were set.
    """

    method: Method
    card: ModelCard
    prompts: PromptSet
    img_size: int
    search: str = ""
    search_options: Mapping[str, Any] = field(default_factory=dict)
    loss: str = ""
    dtype: str = "float32"
    device: str = "cpu"
    most_evaluations: int = 0
    timesteps: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    noise: str = ""
    supervision: str | None = None
    setting: str | None = None
    allocation: str = "even"
    interpolation: str = "bicubic"
    rejection: str = ""
    class_prior: str = ""
    text_defaults: str = ""
    control: str = ""
    vae_tiling: bool = False
    draws: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    fitting: Fitting | None = None


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
    interpolation: str = "bicubic"
    rejection: str = ""
    class_prior: str = ""
    text_defaults: str = ""
    control: str = ""
    vae_tiling: bool = False


@dataclass(frozen=True)
class MethodKind:
    """An entry of `diffcls.classifiers.METHODS`.

    Args:
        check: validates (options, data set) before anything heavy is loaded.
        build: (options, data set, prompts) -> the method, ready for images.
        reads: names of the options that the method reads, in addition to those of every run (see
            `diffcls.evaluation.option_use`); others are refused.
        describe: (options, data set, prompts) -> the method's description, without torch; None
            where it cannot be known before `build`. It allows a finished run to answer at once.
    """

    check: Callable[[ClassifierOptions, DatasetSpec], None]
    build: Callable[[ClassifierOptions, DatasetSpec, PromptSet], Built]
    reads: frozenset[str]
    describe: Callable[[ClassifierOptions, DatasetSpec, PromptSet], Description | None] = (
        lambda *_: None
    )
