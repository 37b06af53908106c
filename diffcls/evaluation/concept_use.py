"""Learned concepts of an evaluation: which they are, and what can use them."""

from __future__ import annotations

from diffcls.classifiers import METHODS
from diffcls.evaluation.options import EvaluationOptions
from diffcls.models.concept_files import Concept, parse
from diffcls.support.errors import UsageError


def check_concepts(options: EvaluationOptions) -> None:
    """Refuse concepts beside whatever would read their new words without knowing them.

    Raises:
        UsageError: for a method, a search or a combination without a diffusion model to add them
            to.
        UsageError, ModelError: see `concepts_of`.
    """
    if not concepts_of(options):
        return
    others = [
        f"--method {name}" for name in options.method if "concept" not in METHODS.load(name).reads
    ]
    others += ["--search propose"] if options.search == "propose" else []
    others += [f"--combine {options.combine}"] if options.combine is not None else []
    if others:
        raise UsageError(
            f"--concept does not apply to {others[0]}: its model does not know the new word",
            given=list(options.concept or ()),
            todo="remove one, or evaluate them one after the other",
        )


def concepts_of(options: EvaluationOptions) -> list[Concept]:
    """The learned concepts of an evaluation.

    Raises:
        UsageError: for two concepts of one label or token.
        UsageError, ModelError: see `diffcls.models.concept_files.parse`.
    """
    concepts = [parse(text) for text in options.concept or ()]
    for names in ([one.label for one in concepts], [one.phrase for one in concepts]):
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise UsageError("--concept: two concepts of one name", given=twice, todo="remove one")
    return concepts
