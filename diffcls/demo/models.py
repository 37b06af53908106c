"""Models of a demo: classifiers and CLIPs, loaded once and shared by all visitors."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from diffcls.api.zero_shot import ZeroShotImageClassifier
from diffcls.demo.interruption import Interruptible, Interruption
from diffcls.demo.options import DemoOptions
from diffcls.demo.presets import Preset, presets
from diffcls.search.paper import Paper
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from diffcls.models.clip import ClipModel

CLIP_MISSING = 'CLIP is not installed on this machine; pip install "diffcls[clip]" adds it.'
CLIP_UNNAMED = "No CLIP was named for this model; start the demo with --clip-model NAME."
SAMPLER_STEPS, GUIDANCE = 16, 2.0
EXAMPLE_NUMBER = 1001
"""Number of a generated example: no sample of an answer is the example itself."""
HUNDRED_CLASSES = 60
"""Labels from which the published stages for about a hundred classes are taken."""


@dataclass(frozen=True)
class ClipAnswer:
    """Answer of CLIP to the same question.

    Args:
        name: name of the CLIP; empty if there is none.
        prediction: labels with their probabilities, best first.
        reason: why there is no prediction.
    """

    name: str = ""
    prediction: tuple[tuple[str, float], ...] = ()
    reason: str = ""


class Models:
    """The models of a demo; those of a preset are loaded at its first use.

    Args:
        options: the demo's options.
    """

    def __init__(self, options: DemoOptions) -> None:
        self.options = options
        self.presets = {preset.name: preset for preset in presets(options)}
        self._classifiers: dict[str, ZeroShotImageClassifier] = {}
        self._clips: dict[str, ClipModel] = {}
        self.interruption = Interruption()
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load all models now, so that what is wrong with one is said before a visitor comes.

        Raises:
            UsageError, ModelError: see `classifier` and `diffcls.models.clip.load`.
        """
        if self.options.clip_model is not None:
            self._clip(self.options.clip_model)
        for preset in self.presets:
            self.classifier(preset)

    def classifier(self, preset: str) -> ZeroShotImageClassifier:
        """The classifier of a preset.

        Raises:
            UsageError: for an unknown preset, or a model that cannot be conditioned.
            UsageError, ModelError: see `ZeroShotImageClassifier.from_pretrained`.
        """
        if preset not in self.presets:
            raise UsageError("unknown model", given=preset, allowed=self.presets)
        with self._lock:
            if preset not in self._classifiers:
                self._classifiers[preset] = self._load(preset)
            return self._classifiers[preset]

    def _load(self, preset: str) -> ZeroShotImageClassifier:
        options = self.options
        search: dict[str, Any] = {} if options.draws is None else {"draws": options.draws}
        made = ZeroShotImageClassifier.from_pretrained(
            preset,
            device=options.device,
            dtype=options.dtype,
            seed=options.seed,
            batch_size=options.batch_size,
            **search,
        )
        if made.denoiser.labels == ():
            raise UsageError(
                "--model is unconditional: it has no labels to compare",
                given=preset,
                allowed="a text-conditional or class-conditional model",
            )
        interruptible: Any = Interruptible(made.denoiser, self.interruption)
        made.denoiser = interruptible
        return made

    def labels(self, preset: str) -> tuple[str, ...]:
        """Labels to begin with: of a class-conditional model, its first classes."""
        known = self.classifier(preset).denoiser.labels
        return self.presets[preset].labels if known is None else tuple(known[:4])

    def template(self, preset: str, given: str) -> str | None:
        """The template of a question; None for a model without a text encoder."""
        return given if self.classifier(preset).denoiser.labels is None else None

    def samples(
        self,
        preset: str,
        label: str,
        labels: Sequence[str],
        template: str,
        numbers: Sequence[int],
    ) -> Generator[Image.Image]:
        """Images that the model generates for a label, one after another.

        Args:
            preset: name of the preset.
            label: one of `labels`.
            labels, template: of the question.
            numbers: number of each image, which determines its noise.
        """
        from diffcls.data.transforms import to_image
        from diffcls.generation.sample import sample

        classifier = self.classifier(preset)
        given = self.template(preset, template)
        prompts = classifier.prompts(labels, *([] if given is None else [(given,)]))
        prompt = prompts.prompts[prompts.rows_of(list(labels).index(label))[0]]
        batches: Any = sample(
            classifier.denoiser,
            [prompt] * len(numbers),
            numbers,
            seed=self.options.seed,
            scale=GUIDANCE,
            steps=SAMPLER_STEPS,
            batch_size=1,
        )
        with closing(batches):
            for batch in batches:
                yield to_image(batch.images[0].numpy())

    def example(self, preset: Preset, label: str) -> Image.Image:
        """An image that the model generates for a label, for the examples."""
        number = [EXAMPLE_NUMBER]
        made = self.samples(preset.name, label, preset.labels, preset.template, number)
        with closing(made) as images:
            return next(images)

    def ask_clip(
        self, preset: str, image: Image.Image, labels: Sequence[str], template: str
    ) -> ClipAnswer:
        """The answer of the preset's CLIP to the same question, with the same prompts.

        Raises:
            UsageError, ModelError: see `diffcls.models.clip.load`.
        """
        name = self.presets[preset].clip
        if find_spec("open_clip") is None:
            return ClipAnswer(reason=CLIP_MISSING)
        if name is None:
            return ClipAnswer(reason=CLIP_UNNAMED)
        import torch

        clip = self._clip(name)
        texts = [template.replace("{}", label) for label in labels]
        logits = clip.logits(
            clip.preprocess(image)[None], clip.classifier(texts, range(len(texts)))
        )
        p = torch.softmax(logits[0].double(), dim=0).tolist()
        order = sorted(range(len(texts)), key=lambda k: -p[k])
        return ClipAnswer(clip.card.name, tuple((labels[k], p[k]) for k in order))

    def _clip(self, name: str) -> ClipModel:
        from diffcls.models import clip, devices

        with self._lock:
            if name not in self._clips:
                device = devices.resolve_device(self.options.device)
                self._clips[name] = clip.load(name, device)
            return self._clips[name]


def published_cost(labels: int) -> int:
    """Evaluations of the published schedule for so many labels (Li et al. 2023, algorithm 2).

    The stages are those published for data sets of that size: of CIFAR-10, or of the sets of about
    a hundred classes.
    """
    from diffcls.classifiers.search_options import most_evaluations
    from diffcls.data.prompts import PromptSet
    from diffcls.data.specs import HUNDRED_CLASSES as HUNDRED
    from diffcls.data.specs import SPECS

    stages = HUNDRED if labels >= HUNDRED_CLASSES else SPECS["cifar10"].stages
    prompts = PromptSet.from_templates([str(k) for k in range(labels)], ["{}"])
    return most_evaluations(Paper(stages.samples, stages.keep), prompts)
