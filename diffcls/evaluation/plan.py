"""From a person's options to an evaluation that is ready to run: everything is looked up first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffcls.classifiers import METHODS
from diffcls.classifiers.base import Built
from diffcls.classifiers.options import EvaluationOptions
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.data.prompts import AGGREGATES, PromptSet
from diffcls.data.subsets import choose
from diffcls.diffusion.learned_weighting import read_weighting
from diffcls.diffusion.parameterization import resolve_weighting
from diffcls.diffusion.timestep_allocation import read_allocation
from diffcls.runs.records import RunSpec, shard_of
from diffcls.support.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Plan:
    """An evaluation that is ready to run.

    Args:
        options: a person's wishes.
        dataset: the chosen images.
        prompts: candidate classes, as they were asked for; `built` knows what the model is asked.
        built: the method.
        spec: what defines the numbers.
        shard: (i, n).
    """

    options: EvaluationOptions
    dataset: Dataset
    prompts: PromptSet
    built: Built
    spec: RunSpec
    shard: tuple[int, int]


def read_options(wishes: Mapping[str, Any]) -> EvaluationOptions:
    """Options from keyword arguments; a lone text stands for a list of one.

    Raises:
        UsageError: for an argument that does not exist.
    """
    wishes = dict(wishes)
    for name in ("method", "template", "stages", "n_samples", "to_keep"):
        value = wishes.get(name)
        if isinstance(value, str):
            value = (value,)
        if value is not None:
            wishes[name] = tuple(value)
    if wishes.get("allocation"):
        wishes["allocation"] = read_allocation(str(wishes["allocation"]))
    if str(wishes.get("weighting", "")).endswith(".json"):
        wishes["weighting"] = read_weighting(wishes["weighting"])
    elif "weighting" in wishes:
        wishes["weighting"] = resolve_weighting(str(wishes["weighting"]))
    try:
        return EvaluationOptions(**wishes)
    except TypeError as error:
        raise UsageError(
            str(error).replace("EvaluationOptions.__init__()", "run_evaluation"),
            allowed=list(EvaluationOptions.__dataclass_fields__),
        ) from None


def check_names(options: EvaluationOptions) -> None:
    """Refuse everything that can be refused before anything heavy is loaded."""
    from diffcls.data.transforms import INTERPOLATIONS
    from diffcls.diffusion.parameterization import LOSSES, check_weighting
    from diffcls.models.devices import check_dtype
    from diffcls.search.aggregation import VOTES

    spec = catalog.find(options.dataset)
    for name in options.method:
        METHODS[name]
    for name in options.method:
        METHODS.load(name).check(options, spec)
    for kind, given, allowed in (
        ("loss", options.loss, LOSSES),
        ("aggregate", options.aggregate, AGGREGATES),
        ("vote", options.vote, VOTES),
        ("interpolation", options.interpolation, INTERPOLATIONS),
    ):
        if given is not None and given not in allowed:
            raise unknown_name(kind, given, allowed)
    check_dtype(options.dtype)
    check_weighting(options.weighting)
    if sum(map(bool, (options.prompts, options.template, options.ensemble))) > 1:
        raise UsageError(
            "prompts given twice", allowed="one of --prompts, --template and --ensemble"
        )
    if options.ensemble:
        from diffcls.models.clip import ensemble

        ensemble(options.ensemble)
    if options.noise_path and not Path(options.noise_path).is_file():
        raise UsageError("noise file not found", given=options.noise_path)


def choose_images(options: EvaluationOptions) -> tuple[Dataset, str]:
    """The images to score, and what the fingerprint says of the choice."""
    whole = load_dataset(
        options.dataset,
        options.split,
        options.data_root,
        options.image_column,
        options.label_column,
    )
    return choose(whole, options.limit, options.subset, options.indices)


def build_prompts(options: EvaluationOptions, dataset: Dataset) -> PromptSet:
    """The candidate classes in the words asked for, else in the data set's own."""
    asked = len(dataset.items[0].candidates)
    if options.prompts:
        return replace(PromptSet.from_csv(options.prompts, dataset.class_names), asked=asked)
    own = ("{}",) if dataset.sentences else catalog.find(options.dataset).templates
    templates = options.template or own
    if options.ensemble:
        from diffcls.models.clip import ensemble

        templates = ensemble(options.ensemble)
    return PromptSet.from_templates(dataset.class_names, templates, dataset.prompt_names, asked)


def make_plan(
    method: str,
    options: EvaluationOptions,
    dataset: Dataset,
    subset: str,
    shard: tuple[int, int],
) -> Plan:
    """Load what the method needs, and fix the spec."""
    prompts = build_prompts(options, dataset)
    built = METHODS.load(method).build(options, catalog.find(options.dataset), prompts)
    spec = RunSpec(
        dataset=dataset.name,
        data_revision=dataset.revision,
        split=dataset.split,
        subset=subset,
        class_names=built.prompts.class_names,
        prompts=built.prompts.prompts,
        class_of=built.prompts.class_of,
        model=built.card.name,
        model_revision=built.card.revision,
        method=method,
        search=built.search,
        search_options=dict(built.search_options),
        img_size=built.img_size,
        loss=built.loss,
        weighting=options.weighting,
        seed=options.seed,
        dtype=built.dtype,
        noise=built.noise,
        interpolation=options.interpolation,
        aggregate=options.aggregate,
        vote=options.vote,
        allocation=built.allocation,
    )
    return Plan(options, dataset, prompts, built, spec, shard)


def shard_from(options: EvaluationOptions, environment: Mapping[str, str]) -> tuple[int, int]:
    """(i, n) from ``--shard``, ``--n-workers --worker-idx``, torchrun's or SLURM's variables.

    Raises:
        UsageError: for a shard that cannot be read, or outside 0 <= i < n.
    """
    if options.shard is not None:
        try:
            i, n = map(int, options.shard.split("/"))
        except ValueError:
            raise UsageError(
                "cannot read shard", given=options.shard, allowed="i/n, i from 0, such as 0/4"
            ) from None
    elif options.n_workers is not None or options.worker_idx is not None:
        if options.n_workers is None or options.worker_idx is None:
            raise UsageError("--n-workers and --worker-idx go together", allowed="both, or neither")
        i, n = options.worker_idx, options.n_workers
    else:
        i, n = 0, 1
        for rank, size in (
            ("RANK", "WORLD_SIZE"),
            ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
            ("SLURM_PROCID", "SLURM_NTASKS"),
        ):
            if rank in environment and size in environment:
                first = environment.get("SLURM_ARRAY_TASK_MIN", 0) if "ARRAY" in rank else 0
                i, n = int(environment[rank]) - int(first), int(environment[size])
                break
    shard_of(0, (i, n))  # checks the range
    return i, n
