"""Answers to questions: the race as it runs, then the evidence, samples and CLIP.

An answer is a generator of panels. The model works only while the next panels are requested, so a
visitor who stops, or closes the page, ends the computation.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING

from diffcls.demo import markup
from diffcls.demo.interruption import Interrupted
from diffcls.demo.models import Models, published_cost
from diffcls.demo.questions import Question
from diffcls.support.errors import DiffclsError
from diffcls.support.invariants import known

if TYPE_CHECKING:
    from PIL import Image

    from diffcls.api.live_race import RaceState

logger = logging.getLogger(__name__)

FAILED = "Something went wrong on this machine; its log says more."
"""Answer to a visitor after an unexpected failure."""
PANELS = ("race", "evidence", "samples", "clip")
Panels = dict[str, str]
"""Name of a panel -> its markup; panels that do not change are missing."""
SAMPLES = 4
EVIDENCE_DRAWS = 48
SECONDS_BETWEEN_UPDATES = 0.2
SECONDS_OF_A_DROP = 0.08
"""Least time between two updates in which labels drop out, where several do in one batch."""


def answer(models: Models, question: Question) -> Generator[Panels]:
    """The panels of an answer, as they change.

    Args:
        models: the demo's models.
        question: the question.

    Raises:
        UsageError, DataError, ModelError: if the image cannot be classified. What fails later is
            said in its own panel.
    """
    yield {
        **dict.fromkeys(PANELS, ""),
        "race": markup.section("The race", markup.waiting(), "race"),
    }
    last: RaceState | None = None
    with closing(_race(models, question)) as states:
        for state, panel in states:
            last = state
            yield {"race": panel}
    first, second = (str(one["label"]) for one in known(last).prediction[:2])
    stages: dict[str, Callable[[], Generator[str]]] = {
        "evidence": lambda: _evidence(models, question, first, second),
        "samples": lambda: _samples(models, question, first),
        "clip": lambda: _clip(models, question, first),
    }
    titles = dict(zip(stages, ("Evidence", "Samples", "The same question to CLIP"), strict=True))
    for name, stage in stages.items():
        yield {name: markup.section(titles[name], markup.waiting(), name)}
        try:
            with closing(stage()) as panels:
                for panel in panels:
                    yield {name: panel}
        except Interrupted:
            raise
        except Exception as error:  # the panels before it stay
            if not isinstance(error, DiffclsError):
                logger.exception("a part of an answer failed")
            said = str(error) if isinstance(error, DiffclsError) else FAILED
            message = markup.message(said, "error")
            yield {name: markup.section(titles[name], message, name)}


def _race(models: Models, question: Question) -> Generator[tuple[RaceState, str]]:
    """The states that are shown, each with its panel; the last one always is."""
    classifier = models.classifier(question.preset)
    template = models.template(question.preset, question.template)
    published = published_cost(len(question.labels))
    shown, dropped = 0.0, 0
    states = classifier.race(question.image, question.labels, template)
    with closing(states):
        for state in states:
            wait = SECONDS_OF_A_DROP - (time.monotonic() - shown)
            drops = len(state.eliminated) > dropped
            if not (drops or state.finished or wait < SECONDS_OF_A_DROP - SECONDS_BETWEEN_UPDATES):
                continue
            if drops and wait > 0:
                time.sleep(wait)
            shown, dropped = time.monotonic(), len(state.eliminated)
            yield state, markup.race(state, published)


def _evidence(models: Models, question: Question, first: str, second: str) -> Generator[str]:
    evidence = models.classifier(question.preset).explain(
        question.image,
        first,
        second,
        models.template(question.preset, question.template),
        EVIDENCE_DRAWS,
        words=False,
        candidate_labels=question.labels,
    )
    yield markup.evidence(evidence)


def _samples(models: Models, question: Question, label: str) -> Generator[str]:
    made: list[Image.Image] = []
    generated = models.samples(
        question.preset, label, question.labels, question.template, range(SAMPLES)
    )
    with closing(generated):
        for image in generated:
            made.append(image)
            yield markup.samples(made, label, SAMPLES)


def _clip(models: Models, question: Question, label: str) -> Generator[str]:
    asked = models.ask_clip(question.preset, question.image, question.labels, question.template)
    yield markup.clip(asked, label)
