"""Search options: the search, loss and allocation of an evaluation, and its maximum cost."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffcls.classifiers.options import ClassifierOptions
from diffcls.data.catalog import DatasetSpec
from diffcls.data.prompts import PromptSet
from diffcls.diffusion.timestep_allocation import EVEN
from diffcls.models.denoiser import ModelCard
from diffcls.search import SEARCHES
from diffcls.search.base import Search
from diffcls.support.errors import UsageError
from diffcls.support.options import parse_whole

FLAGS = {
    "draws": "draws",
    "confidence": "confidence",
    "budget": "max_evaluations",
    "trials": "n_trials",
    "candidates": "candidates",
    "fit_images": "fit_images",
    "fit_classes": "fit_classes",
}
"""Option of a search -> the flag that sets it."""


def search_name(options: ClassifierOptions) -> str:
    """Name of the search; stages imply ``paper``.

    Raises:
        UsageError: for an unknown search, or stages together with another search.
    """
    stages = options.stages or options.n_samples or options.to_keep or options.n_trials
    name = options.search or ("paper" if stages else "racing")
    SEARCHES[name]  # raises for an unknown name
    if stages and name != "paper":
        raise UsageError("stages belong to --search paper", given=name)
    return name


def build_search(options: ClassifierOptions, spec: DatasetSpec) -> tuple[str, Search]:
    """The search with its options; default stages are those published for the data set.

    Raises:
        UsageError: for an option that the search does not have, or a value out of range.
    """
    name = search_name(options)
    kind: Any = SEARCHES.load(name)
    values = {option: getattr(options, flag) for option, flag in FLAGS.items()}
    given = {option: value for option, value in values.items() if value is not None}
    known = [field.name for field in dataclasses.fields(kind)]
    for option in given:
        if option not in known:
            raise UsageError(
                f"the search {name!r} has no such option",
                given=FLAGS[option],
                allowed=["stages"] * (name == "paper")
                + [FLAGS[other] for other in known if other in FLAGS],
            )
    if name == "paper":
        given["samples"], given["keep"] = _stages(options, spec)
    if name == "propose":
        given["proposer"] = proposer = options.clip_model or spec.clip
        given["revision"] = clip_revision(proposer)
    search: Search = kind(**given)
    return name, search


def _stages(
    options: ClassifierOptions, spec: DatasetSpec
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if options.stages and (options.n_samples or options.to_keep):
        raise UsageError(
            "--stages excludes --n-samples and --to-keep",
            given=" ".join(options.stages),
            todo="remove one of them",
        )
    if options.stages:
        try:
            pairs = [tuple(map(parse_whole, stage.split(":"))) for stage in options.stages]
            samples, keep = (tuple(column) for column in zip(*pairs, strict=True))
        except ValueError:
            raise UsageError(
                "cannot parse --stages",
                given=" ".join(options.stages),
                allowed="SAMPLES:KEEP …, such as 50:5 500:1",
            ) from None
        return samples, keep
    if bool(options.n_samples) != bool(options.to_keep):
        raise UsageError("--n-samples and --to-keep go together", allowed="both, or neither")
    if options.n_samples and options.to_keep:
        return tuple(options.n_samples), tuple(options.to_keep)
    return spec.stages.samples, spec.stages.keep


def build_loss(options: ClassifierOptions, spec: DatasetSpec) -> str:
    """Name of the loss: the value of ``--loss`` if given.

    Otherwise the loss of the published command for the published stages, and l2 for all others.
    """
    if options.loss:
        return options.loss
    given = options.stages or options.n_samples
    return spec.stages.loss if search_name(options) == "paper" and not given else "l2"


def build_allocation(options: ClassifierOptions, card: ModelCard) -> str:
    """Name of the timestep allocation: the value of ``--allocation`` if given.

    Otherwise even for the published stages or a weighting, and that of the model's card for all
    others.

    Raises:
        UsageError: for the published stages with an allocation other than even.
    """
    check_allocation(options)
    if options.allocation is not None:
        return options.allocation
    published = search_name(options) == "paper"
    return EVEN if published or options.weighting != "uniform" else card.allocation


def check_allocation(options: ClassifierOptions) -> None:
    """Raise UsageError for the published stages with an allocation other than even."""
    if search_name(options) == "paper" and options.allocation not in (None, EVEN):
        raise UsageError(
            "--search paper defines its own timesteps",
            given=f"--allocation {str(options.allocation).partition(':')[0]}",
            todo="remove --allocation, or choose another search",
        )


def clip_revision(name: str) -> str:
    """The revision of a CLIP model's weights, which are not loaded."""
    from diffcls.models import clip

    return clip.find_card(name).revision


def most_evaluations(
    search: Search, prompts: PromptSet, aggregate: str = "classes", background: bool = False
) -> int:
    """Maximum evaluations per image, with those of a screen; reached if all errors are equal.

    With a background prompt, it and the best candidate are evaluated on all draws.
    """
    import numpy as np

    # with equal errors a search keeps the first classes: put those of most prompts first
    prompts_per_row = np.sort(np.bincount(prompts.class_of))[::-1]
    screen_cost = 0
    if search.screen is not None:
        screen_cost, left = search.screen.limits(len(prompts_per_row))
        prompts_per_row = prompts_per_row[:left]
    if aggregate == "prompts":
        prompts_per_row = np.ones(len(prompts), dtype=np.int64)
    if aggregate == "rotate":
        prompts_per_row = np.ones(len(prompts_per_row), dtype=np.int64)
    if prompts.asked:
        prompts_per_row = prompts_per_row[: prompts.asked]
    table = np.full((len(prompts_per_row), len(search.plan(1000))), np.nan, dtype=np.float32)
    total = screen_cost
    while (requested := search.ask(table)) is not None:
        table[requested[:, 0], requested[:, 1]] = 0.0
        total += int(prompts_per_row[requested[:, 0]].sum())
    if background:
        open_draws = np.isnan(table).sum(axis=1).min()
        total += int(open_draws * prompts_per_row[0]) + len(table[0])
    # the empty prompt shares the leader's draws
    return total + (len(table[0]) if prompts.asked else 0)


def search_options(search: Search) -> dict[str, Any]:
    """Options of a search as a dictionary; a CLIP model is identified by its name, not its path."""
    values: dict[str, Any] = dataclasses.asdict(search)  # type: ignore[call-overload]
    if "proposer" in values:
        from diffcls.models import clip

        values["proposer"] = clip.find_card(values["proposer"]).name
    return values
