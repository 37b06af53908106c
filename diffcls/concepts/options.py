"""Options of ``python -m diffcls.learn_concept``: one field per flag."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.concepts import LAYERS, METHODS
from diffcls.data.class_names import same_name
from diffcls.data.prompts import PromptSet
from diffcls.models.concept_files import check_token
from diffcls.support.environment import MAX_THREADS
from diffcls.support.errors import UsageError
from diffcls.support.options import (
    MAX_COUNT,
    MAX_ROWS,
    MAX_SEED,
    check_values,
    flag_of,
    free_text,
    part_of,
    within,
)
from diffcls.support.paths import UserPath, expand_fields

if TYPE_CHECKING:
    from diffcls.concepts.kinds import LearningKind
    from diffcls.training.recipes import Optimisation

MAX_VECTORS, MAX_RANK = 32, 256
COMMON = frozenset(
    {"name", "method", "seed", "steps", "batch_size", "learning_rate", "template", "augment"}
)
"""Settings that every way of learning reads."""


@dataclass(frozen=True, kw_only=True)
class ConceptSettings:
    """Settings that decide what is learned, given model and images.

    Args:
        name: name of the concept, a new token in angle brackets.
        init: words whose embeddings the learning starts from, and of DreamBooth the class; None:
            the mean of all embeddings.
        method: how it is learned, a key of `diffcls.concepts.METHODS`.
        vectors: number of embeddings.
        rank: rank of the low-rank changes of DreamBooth.
        lora_layers: which layers DreamBooth changes: ``attention``, or ``blocks``: also the
            convolutions of residual blocks, so that it learns shapes that the model never saw.
        prior_images: images that DreamBooth generates of the classes that it preserves.
        augment: number of copies of each image that are learned from beside it, each mirrored with
            probability ½, and of another size, place and contrast.
        steps, batch_size, learning_rate: of the optimiser; None: the method's own. The learning
            rate of embeddings is relative to the root mean square of the embedding table.
        template: prompt templates with ``{}``; None: neutral ones, and those of the data set that
            the model was trained on.
        against: names of the classes that compete with the concept.
        seed: seed of all random choices.
    """

    name: str = ""
    init: str | None = free_text()
    method: str = "textual"
    vectors: int = within(1, MAX_VECTORS, 4)
    rank: int = within(1, MAX_RANK, 8)
    lora_layers: str = "attention"
    prior_images: int = within(1, MAX_ROWS, 32)
    augment: int = within(0, MAX_ROWS, 0)
    steps: int | None = within(1, MAX_COUNT)
    batch_size: int | None = within(1, MAX_ROWS)
    learning_rate: float | None = within(0, 100, whole=False, is_open=True)
    template: tuple[str, ...] | None = free_text()
    against: tuple[str, ...] | None = free_text()
    seed: int = within(0, MAX_SEED, 0)

    def __post_init__(self) -> None:
        for name in ("template", "against"):
            value = getattr(self, name)
            if isinstance(value, str | list | tuple):
                values = (value,) if isinstance(value, str) else tuple(value)
                object.__setattr__(self, name, values)
        expand_fields(self)
        check_values(self)
        check_token(self.name)
        METHODS[self.method]
        LAYERS[self.lora_layers]
        self._check_against()
        if self.template is not None:
            PromptSet.from_templates(["first", "second"], self.template)

    def _check_against(self) -> None:
        """Raise UsageError for a class that competes twice, or a concept with itself."""
        names = [same_name(name) for name in (self.name, *(self.against or ()))]
        for place, name in enumerate(names[1:], 1):
            if name in names[:place]:
                raise UsageError(
                    "--against: a class twice, or the concept itself",
                    given=self.against[place - 1] if self.against else None,
                    allowed="names of other classes, each once",
                )

    def kind(self) -> LearningKind:
        """The row of the method."""
        kind: LearningKind = METHODS.load(self.method)
        return kind

    def optimisation(self) -> Optimisation:
        """Length and settings of the optimiser."""
        return self.kind().optimisation_of(self)

    def check(self) -> None:
        """Raise UsageError for an option that the method does not read, or one that it needs.

        A batch that the draws of its images do not divide is refused as well.
        """
        kind = self.kind()
        for field in fields(self):
            value, name = getattr(self, field.name), field.name
            if name in kind.needs and not value:
                raise UsageError(
                    f"--method {self.method} needs {flag_of(name)}", todo=kind.needs[name]
                )
            if value != field.default and name not in COMMON | kind.reads and name in SETTINGS:
                raise UsageError(
                    f"{flag_of(name)} does not apply to --method {self.method}",
                    given=value,
                    todo=f"remove {flag_of(name)}",
                )
        kind.check_batch(self.optimisation().batch)


@dataclass(frozen=True, kw_only=True)
class ConceptOptions(ConceptSettings):
    """The flags of ``python -m diffcls.learn_concept``.

    Args:
        images: folder of images that show the concept; those of subfolders count.
        against_images: folder of images that do not show it.
        model: see `diffcls.models.loading.find`.
        output_dir: folder of the concept.
        img_size: side of the images in pixels; None: the model's.
        device, dtype: as of ``diffcls evaluate``.
        threads: CPU threads; None: torch's choice.
        json, quiet: output of the command.
        command: the command, for the card.
    """

    images: UserPath = ""
    against_images: UserPath | None = None
    model: UserPath = "digits"
    output_dir: UserPath = "concept"
    img_size: int | None = within(1, 16_384)
    device: str | None = None
    dtype: str = "auto"
    threads: int | None = within(1, MAX_THREADS)
    json: bool = False
    quiet: bool = False
    command: str = free_text("python -m diffcls.learn_concept")

    def settings(self) -> ConceptSettings:
        """The settings alone."""
        return part_of(self, ConceptSettings)

    def folder(self) -> Path:
        """The folder of the concept."""
        return Path(self.output_dir)


SETTINGS = tuple(field.name for field in fields(ConceptSettings))


def plan_of(settings: ConceptSettings) -> dict[str, Any]:
    """What decides the result, in plain JSON types."""
    import dataclasses
    import json

    optimisation = dataclasses.asdict(settings.optimisation())
    optimisation["images_seen"] = optimisation.pop("images")
    plan = dataclasses.asdict(settings) | optimisation
    whole: dict[str, Any] = json.loads(json.dumps(plan))
    return whole
