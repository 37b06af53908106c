"""From a person's options to a search: its stages, draws and loss, and what it costs at most."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffcls.classifiers.options import ClassifierOptions
from diffcls.data.catalog import DatasetSpec
from diffcls.data.prompts import PromptSet
from diffcls.diffusion.timestep_allocation import EVEN
from diffcls.models.denoiser import ModelCard
from diffcls.search import SEARCHES
from diffcls.search.error_table import Search
from diffcls.search.screening import Screened
from diffcls.support.errors import UsageError

# option of a search -> the flag that sets it
FLAGS = {
    "draws": "draws",
    "confidence": "confidence",
    "budget": "max_evaluations",
    "trials": "n_trials",
    "candidates": "candidates",
}


def search_name(options: ClassifierOptions) -> str:
    """The search asked for; stages imply ``paper``.

    Raises:
        UsageError: for an unknown search, or stages together with another one.
    """
    stages = options.stages or options.n_samples or options.to_keep or options.n_trials
    name = options.search or ("paper" if stages else "racing")
    SEARCHES[name]  # raises for an unknown name
    if stages and name != "paper":
        raise UsageError("stages belong to the search 'paper'", given=name)
    return name


def build_search(options: ClassifierOptions, spec: DatasetSpec) -> tuple[str, Search]:
    """The search with its options, the data set's published stages where none are given.

    Raises:
        UsageError: for an option that the search does not have, or a value out of range.
    """
    name = search_name(options)
    kind: Any = SEARCHES.load(name)
    wishes = {option: getattr(options, flag) for option, flag in FLAGS.items()}
    given = {option: value for option, value in wishes.items() if value is not None}
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
        raise UsageError("stages given twice", allowed="--stages, or --n-samples with --to-keep")
    if options.stages:
        try:
            pairs = [tuple(map(int, stage.split(":"))) for stage in options.stages]
            samples, keep = (tuple(column) for column in zip(*pairs, strict=True))
        except ValueError:
            raise UsageError(
                "cannot read stages",
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
    """The loss asked for; else the published one where the published stages are used, else l2."""
    if options.loss:
        return options.loss
    given = options.stages or options.n_samples
    return spec.stages.loss if search_name(options) == "paper" and not given else "l2"


def build_allocation(options: ClassifierOptions, card: ModelCard) -> str:
    """The allocation asked for; else even where the protocol or a weighting is, else the model's.

    Raises:
        UsageError: for the published stages with another allocation than theirs.
    """
    check_allocation(options)
    if options.allocation is not None:
        return options.allocation
    published = search_name(options) == "paper"
    return EVEN if published or options.weighting != "uniform" else card.allocation


def check_allocation(options: ClassifierOptions) -> None:
    """Raises UsageError for the published stages with another allocation than theirs."""
    if search_name(options) == "paper" and options.allocation not in (None, EVEN):
        raise UsageError(
            "the published stages have draws of their own",
            given=f"--allocation {str(options.allocation).partition(':')[0]}",
            todo="leave it out, or choose another search",
        )


def clip_revision(name: str) -> str:
    """The revision of a CLIP model's weights, without opening them."""
    from diffcls.models import clip

    return clip.find_card(name).revision


def most_evaluations(search: Search, prompts: PromptSet, aggregate: str = "classes") -> int:
    """Evaluations of an image at most, prompts counted: driven with errors that never differ."""
    import numpy as np

    # of equal errors a search keeps the first classes: let these be the ones of most prompts
    of_row = np.sort(np.bincount(prompts.class_of))[::-1]
    before = 0
    if isinstance(search, Screened):
        before, left = search.most_before(len(of_row))
        of_row = of_row[:left]
    if aggregate == "prompts":
        of_row = np.ones(len(prompts), dtype=np.int64)
    if prompts.asked:
        of_row = of_row[: prompts.asked]
    table = np.full((len(of_row), len(search.plan(1000))), np.nan, dtype=np.float32)
    total = before
    while (wanted := search.ask(table)) is not None:
        table[wanted[:, 0], wanted[:, 1]] = 0.0
        total += int(of_row[wanted[:, 0]].sum())
    # the empty prompt shares the leader's draws
    return total + (len(table[0]) if prompts.asked else 0)


def search_options(search: Search) -> dict[str, Any]:
    """The search's options; of a CLIP model its own name, wherever it lies."""
    found: dict[str, Any] = dataclasses.asdict(search)  # type: ignore[call-overload]
    if "proposer" in found:
        from diffcls.models import clip

        found["proposer"] = clip.find_card(found["proposer"]).name
    return found
