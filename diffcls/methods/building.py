"""From a person's options to a diffusion classifier that is ready for images."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffcls.allocation import EVEN
from diffcls.data.specs import DatasetSpec
from diffcls.denoiser import Denoiser, ModelCard
from diffcls.errors import UsageError, unknown_name
from diffcls.method import Built, MethodKind
from diffcls.methods.class_ids import class_prompts
from diffcls.options import EvaluationOptions
from diffcls.prompts import PromptSet
from diffcls.screens.screen import Screened
from diffcls.search import SEARCHES
from diffcls.search.table import Search

DEFAULT_BATCH = 64
# option of a search -> the flag that sets it
FLAGS = {
    "draws": "draws",
    "confidence": "confidence",
    "budget": "max_evaluations",
    "trials": "n_trials",
    "candidates": "candidates",
}


def search_name(options: EvaluationOptions) -> str:
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


def build_search(options: EvaluationOptions, spec: DatasetSpec) -> tuple[str, Search]:
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
    options: EvaluationOptions, spec: DatasetSpec
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


# the published script's --version
VERSIONS = {
    "1-1": "CompVis/stable-diffusion-v1-1",
    "1-2": "CompVis/stable-diffusion-v1-2",
    "1-3": "CompVis/stable-diffusion-v1-3",
    "1-4": "CompVis/stable-diffusion-v1-4",
    "1-5": "sd15",
    "2-0": "sd2-base",
    "2-1": "sd21-base",
}


# methods that run no diffusion model: where only such are asked for, --model is theirs
OTHER_MODELS = frozenset({"clip", "reference"})


def model_name(options: EvaluationOptions, spec: DatasetSpec) -> str:
    """The diffusion model asked for, else the data set's default.

    Raises:
        UsageError: where there is neither.
    """
    if options.version is not None:
        if options.model:
            raise UsageError("model given twice", allowed="--model, or --version")
        if options.version not in VERSIONS:
            raise unknown_name("version of Stable Diffusion", options.version, VERSIONS)
        return VERSIONS[options.version]
    wished = options.model if not OTHER_MODELS.issuperset(options.method) else None
    if wished or spec.model:
        return wished or spec.model
    raise UsageError(f"no default model for {spec.name}", todo="name one with --model")


def build_loss(options: EvaluationOptions, spec: DatasetSpec) -> str:
    """The loss asked for; else the published one where the published stages are used, else l2."""
    if options.loss:
        return options.loss
    given = options.stages or options.n_samples
    return spec.stages.loss if search_name(options) == "paper" and not given else "l2"


def build_allocation(options: EvaluationOptions, card: ModelCard) -> str:
    """The allocation asked for; else even where the protocol or a weighting is, else the model's.

    Raises:
        UsageError: for the published stages with another allocation than theirs.
    """
    _check_allocation(options)
    if options.allocation is not None:
        return options.allocation
    published = search_name(options) == "paper"
    return EVEN if published or options.weighting != "uniform" else card.allocation


def _check_allocation(options: EvaluationOptions) -> None:
    if search_name(options) == "paper" and options.allocation not in (None, EVEN):
        raise UsageError(
            "the published stages have draws of their own",
            given=f"--allocation {str(options.allocation).partition(':')[0]}",
            todo="leave it out, or choose another search",
        )


def check(options: EvaluationOptions, spec: DatasetSpec) -> None:
    """Refuse an unknown model or search, or options that the search does not take."""
    from diffcls.models.loading import check_name

    build_search(options, spec)
    _check_allocation(options)
    check_name(model_name(options, spec))


def clip_revision(name: str) -> str:
    """The revision of a CLIP model's weights, without opening them."""
    from diffcls.models import clip

    return clip.find_card(name).revision


def load_denoiser(options: EvaluationOptions, spec: DatasetSpec) -> tuple[Denoiser, str]:
    """The diffusion model asked for, and the device that it is on.

    Raises:
        UsageError, ModelError: see `diffcls.models.loading.load`.
    """
    from diffcls.models import devices, loading

    device = devices.resolve_device(options.device)
    denoiser = loading.load(
        model_name(options, spec),
        device,
        devices.resolve_dtype(options.dtype),
        options.img_size,
        lora=options.lora,
        model_config=options.model_config,
    )
    return denoiser, device


def diffusion(options: EvaluationOptions, spec: DatasetSpec, prompts: PromptSet) -> Built:
    """The diffusion classifier that `options` describe.

    Args:
        options: a person's wishes.
        spec: of the data set, for its defaults.
        prompts: candidate classes.

    Raises:
        UsageError, ModelError: see `build_search` and `diffcls.models.loading.load`.
    """
    name, search = build_search(options, spec)
    loss = build_loss(options, spec)

    from diffcls.methods.diffusion import DiffusionMethod
    from diffcls.scorer import Scoring

    scoring = Scoring(loss, options.weighting)
    denoiser, device = load_denoiser(options, spec)
    if denoiser.labels is not None:
        prompts = _ask_by_id(options, denoiser.labels, prompts)
    elif options.class_ids:
        raise UsageError("the model reads texts", given="--class-ids", todo="leave it out")
    allocation = build_allocation(options, denoiser.card)
    method = DiffusionMethod(
        denoiser,
        prompts,
        search,
        scoring,
        options.seed,
        batch_size(options.batch_size),
        noise_path=options.noise_path,
        keep_errors=options.save_errors is not None,
        interpolation=options.interpolation,
        aggregate=options.aggregate,
        vote=options.vote,
        allocation=allocation,
    )
    if options.batch_size in (None, "auto") and denoiser.device.type != "cpu":
        method.choose_batch_size()
    return Built(
        method=method,
        card=denoiser.card,
        prompts=prompts,
        search=name,
        search_options=_search_options(search),
        img_size=denoiser.image_size,
        loss=loss,
        dtype=str(denoiser.dtype).removeprefix("torch."),
        device=device,
        most_evaluations=most_evaluations(search, prompts, options.aggregate),
        supervision="hybrid" if name == "propose" else None,
        timesteps=denoiser.schedule.timesteps[method.plan.indices],
        noise=_file_hash(options.noise_path),
        allocation=allocation,
        draws={
            "indices": method.plan.indices,
            "alpha": denoiser.schedule.alpha,
            "sigma": denoiser.schedule.sigma,
        },
    )


def _search_options(search: Search) -> dict[str, Any]:
    """The search's options; of a CLIP model its own name, wherever it lies."""
    found: dict[str, Any] = dataclasses.asdict(search)  # type: ignore[call-overload]
    if "proposer" in found:
        from diffcls.models import clip

        found["proposer"] = clip.find_card(found["proposer"]).name
    return found


def _ask_by_id(options: EvaluationOptions, labels: Sequence[str], prompts: PromptSet) -> PromptSet:
    """The same candidates for a model that reads class ids."""
    if options.prompts or options.template:
        raise UsageError(
            "the model reads class ids, no texts",
            given="--prompts" if options.prompts else "--template",
            todo="leave it out; --class-ids FILE says which class each candidate is",
        )
    return class_prompts(prompts.class_names, labels, options.class_ids)


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


def batch_size(given: int | str | None) -> int:
    """Rows of a forward, from what a person wrote.

    Raises:
        UsageError: for anything but a whole number above 0, ``auto`` or None.
    """
    if given in (None, "auto"):
        return DEFAULT_BATCH
    try:
        size = int(str(given))
    except ValueError:
        size = 0
    if size < 1:
        raise UsageError("batch size out of range", given=given, allowed="1 or more, or auto")
    return size


def _file_hash(path: str | None) -> str:
    if path is None:
        return ""
    with open(Path(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


DIFFUSION = MethodKind(check, diffusion)
