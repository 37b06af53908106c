"""Plan of an evaluation: names are checked first, then data, prompts and method are prepared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from diffcls.classifiers import METHODS
from diffcls.classifiers.base import Built, Description
from diffcls.classifiers.model_memory import memory_options
from diffcls.data import catalog
from diffcls.data.added_classes import with_fillings
from diffcls.data.class_tables import announce_order
from diffcls.data.csv_tables import read_text
from diffcls.data.dataset import Dataset
from diffcls.data.distinct_prompts import check_distinct
from diffcls.data.load import load_split
from diffcls.data.open_set import OpenSet, open_set
from diffcls.data.prompts import AGGREGATES, PromptSet
from diffcls.data.read_timeout import with_read_timeout
from diffcls.data.seen_images import sample_hashes
from diffcls.data.subsets import choose
from diffcls.evaluation.concept_use import check_concepts, concepts_of
from diffcls.evaluation.executors.base import Executor
from diffcls.evaluation.executors.serial import SerialExecutor
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.time_budget import read_time
from diffcls.models.memory_options import parse_quantisation
from diffcls.runs.sharding import shard_from
from diffcls.runs.spec import RunSpec
from diffcls.support.errors import DataError, UsageError, unknown_name
from diffcls.support.notices import warn


@dataclass(frozen=True)
class Plan:
    """An evaluation that is ready to run.

    Args:
        options: the options of the evaluation.
        dataset: the chosen images.
        prompts: candidate classes; `built` has the prompts or class ids that the model receives.
        built: the method.
        spec: specification of the run.
        shard: (i, n).
        executor: where the method runs.
    """

    options: EvaluationOptions
    dataset: Dataset
    prompts: PromptSet
    built: Built
    spec: RunSpec
    shard: tuple[int, int]
    executor: Executor = field(default_factory=SerialExecutor)


def check_names(options: EvaluationOptions) -> None:
    """Refuse unknown names and impossible values before anything heavy is loaded."""
    from diffcls.data.transforms import RESIZINGS
    from diffcls.diffusion.parameterization import BOUND_LOSSES, LOSSES, check_loss, check_weighting
    from diffcls.models.devices import check_device, check_dtype
    from diffcls.search.aggregation import VOTES

    spec = catalog.find(options.dataset)
    for name in options.method:
        METHODS[name]
    for name in options.method:
        METHODS.load(name).check(options, spec)
        check_tables(options, name)
    for kind, given, allowed in (
        ("loss", options.loss, (*LOSSES, *BOUND_LOSSES)),
        ("aggregate", options.aggregate, AGGREGATES),
        ("vote", options.vote, VOTES),
        ("interpolation", options.interpolation, RESIZINGS),
    ):
        if given is not None and given not in allowed:
            raise unknown_name(kind, given, allowed)
    check_device(options.device)
    check_dtype(options.dtype)
    check_weighting(options.weighting)
    check_loss(options.loss or "", options.weighting)
    if options.template:
        PromptSet.from_templates(["first", "second"], options.template)
    if options.budget is not None:
        read_time(options.budget)
    shard_from({}, options.shard, options.n_workers, options.worker_idx)
    if sum(one is not None for one in (options.prompts, options.template, options.ensemble)) > 1:
        raise UsageError(
            "--prompts, --template and --ensemble exclude one another", allowed="one of them"
        )
    if options.ensemble is not None:
        from diffcls.models.clip import ensemble

        ensemble(options.ensemble)
    if options.classnames is not None:
        if not spec.own:
            raise UsageError(
                f"--classnames: {spec.name} has class names of its own",
                allowed="a data set of your own: folder:, parquet:, hf: or webdataset:",
                todo="remove it",
            )
        read_text(Path(options.classnames), "--classnames")
    if options.noise_path is not None and not Path(options.noise_path).is_file():
        raise UsageError("--noise-path not found", options.noise_path, "an existing file")
    if options.variant == "":
        raise UsageError("--variant is empty", given="''", todo="remove it, or name a variant")
    if options.lora is not None:
        from diffcls.models.lora import parse as parse_lora

        parse_lora(options.lora)
    check_concepts(options)
    memory_options(options)
    for flag, path in (("--prompts", options.prompts), ("--class-ids", options.class_ids)):
        if path is not None and not Path(path).is_file():
            raise DataError(f"{flag}: file not found", given=str(path), todo="check the path")


def check_tables(options: EvaluationOptions, method: str) -> None:
    """Raise UsageError for ``--save-errors`` with a method that has no error tables."""
    if options.save_errors is not None and "save_errors" not in METHODS.load(method).reads:
        raise UsageError(
            f"--save-errors does not apply: the method {method!r} has no error tables",
            todo="remove --save-errors, or choose --method diffusion",
        )


def choose_images(options: EvaluationOptions) -> tuple[Dataset, str]:
    """The images to score, and the subset's name in the fingerprint."""
    whole = load_split(options, options.split)
    if catalog.find(options.dataset).own:
        for flag, path in (("--prompts", options.prompts), ("--class-ids", options.class_ids)):
            if path is not None:
                announce_order(Path(path), whole.class_names, flag)
    whole = with_fillings(whole, {one.label: one.phrase for one in concepts_of(options)})
    chosen, subset = choose(whole, options.limit, options.subset, options.indices)
    chosen = with_read_timeout(chosen, options.read_timeout)
    _warn_of_learned_images(options, chosen)
    return (open_set(chosen, options.seed) if options.reject else chosen), subset


def _warn_of_learned_images(options: EvaluationOptions, chosen: Dataset) -> None:
    """Warn where a sample of the images contains some that a concept was learned from."""
    for concept in concepts_of(options):
        if concept.hashes:
            common = int(np.isin(sample_hashes(chosen), concept.hashes).sum())
            if common:
                warn(
                    f"--concept: {common} of the images that were compared are among those that "
                    f"{concept.phrase} was learned from"
                )


def build_prompts(options: EvaluationOptions, dataset: Dataset) -> PromptSet:
    """The candidate classes with the given prompts, else with the data set's own templates.

    Raises:
        UsageError, DataError: for prompts that do not fit the classes, or that classes share.
    """
    if isinstance(dataset, OpenSet):
        return dataset.candidates(build_prompts(options, dataset.whole))
    candidates = len(dataset.items[0].candidates)
    spec = catalog.find(options.dataset)
    if options.prompts:
        of_file = PromptSet.from_csv(options.prompts, dataset.class_names, spec.synonyms)
        prompts = replace(of_file, asked=candidates)
        for concept in concepts_of(options):
            if not any(concept.phrase in prompt for prompt in prompts.prompts):
                raise UsageError(
                    "--concept: no prompt of --prompts contains the concept",
                    given=concept.phrase,
                    todo="write it into the prompts of its class, or remove --prompts",
                )
    else:
        templates = options.template or dataset.templates_or(spec.templates)
        if options.ensemble:
            from diffcls.models.clip import ensemble

            templates = ensemble(options.ensemble)
        prompts = PromptSet.from_templates(
            dataset.class_names,
            templates,
            dataset.prompt_names,
            candidates,
            # captions of two images that differ only in case are no error of their owner
            own=spec.own and not dataset.sentences,
        )
    check_distinct(prompts, prompts.prompts, warn=False)  # before a model is loaded
    return prompts


def make_plan(
    method: str,
    options: EvaluationOptions,
    dataset: Dataset,
    subset: str,
    shard: tuple[int, int],
    executor: Executor | None = None,
) -> Plan:
    """Load the method with its model, and resolve the specification.

    Args:
        method: name of the method.
        options: options of the evaluation.
        dataset: the images to score.
        subset: name of the chosen subset of the split.
        shard: (i, n).
        executor: where the method runs; None: in this process.
    """
    executor = executor or SerialExecutor()
    prompts = build_prompts(options, dataset)
    built = executor.build(method, options, dataset, prompts)
    spec = spec_of(method, options, dataset, subset, built, built.img_size)
    return Plan(options, dataset, prompts, built, spec, shard, executor)


def spec_of(
    method: str,
    options: EvaluationOptions,
    dataset: Dataset,
    subset: str,
    described: Built | Description,
    img_size: int,
) -> RunSpec:
    """The specification of a run.

    Args:
        method: name of the method.
        options: options of the evaluation.
        dataset: the images to score.
        subset: name of the chosen subset of the split.
        described: the loaded method, or its description, made without loading a model.
        img_size: side of the images in pixels.
    """
    return RunSpec(
        dataset=dataset.name,
        data_revision=dataset.revision,
        split=dataset.split,
        subset=subset,
        class_names=described.prompts.class_names,
        prompts=described.prompts.prompts,
        class_of=described.prompts.class_of,
        model=described.card.name,
        model_revision=described.card.revision,
        method=method,
        search=described.search,
        search_options=dict(described.search_options),
        img_size=img_size,
        loss=described.loss,
        weighting=options.weighting,
        seed=options.seed,
        dtype=described.dtype,
        noise=described.noise,
        interpolation=options.interpolation or described.interpolation,
        aggregate=options.aggregate,
        vote=options.vote,
        allocation=described.allocation,
        rejection=described.rejection,
        text_defaults=described.text_defaults,
        quantize=str(parse_quantisation(options.quantize)) if options.quantize else "",
        vae_tiling=described.vae_tiling,
        class_prior=described.class_prior,
        control=described.control,
    )
