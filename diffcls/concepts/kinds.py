"""Ways of learning a concept: the form of a row of `diffcls.concepts.METHODS`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffcls.support.errors import UsageError
from diffcls.training.recipes import Optimisation


@dataclass(frozen=True)
class LearningKind:
    """A row of `diffcls.concepts.METHODS`.

    Args:
        learn: learns a concept: `diffcls.concepts.task.LearningTask` ->
            `diffcls.concepts.task.Learned`.
        reads: options that it reads, beyond those that every way of learning reads.
        optimisation: length and settings of the optimiser; ``images`` are steps · batch.
        summary: the method with its source, for the card.
        phases: name -> draws per image and step, of each phase of the training in order of time.
        needs: option -> why it must be given.
        fillings: settings -> what fills the templates beside the word of learned vectors.
    """

    learn: Callable[[Any], Any]
    reads: frozenset[str]
    optimisation: Optimisation
    summary: str
    phases: Mapping[str, int]
    needs: Mapping[str, str] = field(default_factory=dict)
    fillings: Callable[[Any], tuple[str, ...]] = lambda settings: ()

    def check_batch(self, batch: int) -> None:
        """Raise UsageError for a batch that a phase cannot divide into the draws of its images."""
        for name, draws in self.phases.items():
            if batch % draws:
                raise UsageError(
                    f"--batch-size does not fit the phase {name}, with {draws} draws per image",
                    given=batch,
                    allowed=f"a multiple of {draws}",
                )

    def phases_of(self, settings: Any) -> dict[str, dict[str, int]]:
        """Phase -> its steps, the images of a step, and the draws of each image."""
        chosen = self.optimisation_of(settings)
        return {
            name: {"steps": chosen.batches, "images": chosen.batch // draws, "draws": draws}
            for name, draws in self.phases.items()
        }

    def optimisation_of(self, settings: Any) -> Optimisation:
        """The optimisation with the steps, batch size and learning rate that were given."""
        default = self.optimisation
        batch = settings.batch_size or default.batch
        steps = settings.steps or default.batches
        rate = settings.learning_rate or default.learning_rate
        return dataclasses.replace(default, images=steps * batch, batch=batch, learning_rate=rate)
