"""Model options: the diffusion model and classifier that an evaluation's options describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diffcls.classifiers import control_options
from diffcls.classifiers.base import Built, Description, MethodKind
from diffcls.classifiers.class_prior_options import check_class_prior
from diffcls.classifiers.fitted_search import SEARCH_FITS, check_fitted_search
from diffcls.classifiers.model_memory import check_memory, memory_options
from diffcls.classifiers.options import MODEL_OPTIONS, PROMPT_OPTIONS, ClassifierOptions
from diffcls.classifiers.rejection_options import background_of, check_rejection
from diffcls.classifiers.search_options import (
    build_allocation,
    build_loss,
    build_search,
    check_allocation,
    most_evaluations,
    search_name,
    search_options,
)
from diffcls.data.catalog import DatasetSpec
from diffcls.data.class_ids import class_prompts
from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Denoiser
from diffcls.models.model_argument import Model, shown
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.hashing import hash_file

DEFAULT_BATCH_SIZE = 64
VERSIONS = {
    "1-1": "CompVis/stable-diffusion-v1-1",
    "1-2": "CompVis/stable-diffusion-v1-2",
    "1-3": "CompVis/stable-diffusion-v1-3",
    "1-4": "CompVis/stable-diffusion-v1-4",
    "1-5": "sd15",
    "2-0": "sd2-base",
    "2-1": "sd21-base",
}
"""Value of the published script's ``--version`` -> model name."""
METHODS_WITHOUT_DENOISER = frozenset({"clip", "features", "reference"})
"""Methods without a diffusion model: if only such are given, --model names their model."""


def model_of(options: ClassifierOptions, spec: DatasetSpec) -> Model:
    """The diffusion model: the value of ``--model``, else the name of the data set's default.

    Raises:
        UsageError: if there is neither.
    """
    if options.version is not None:
        if options.model is not None:
            raise UsageError(
                "--model and --version exclude each other", shown(options.model), todo="remove one"
            )
        if options.version not in VERSIONS:
            raise unknown_name("version of Stable Diffusion", options.version, VERSIONS)
        return VERSIONS[options.version]
    given = options.model if not METHODS_WITHOUT_DENOISER.issuperset(options.method) else None
    if given is not None or spec.model:
        return spec.model if given is None else given
    raise UsageError(f"no default model for {spec.name}", todo="choose one with --model")


def check(options: ClassifierOptions, spec: DatasetSpec) -> None:
    """Raise UsageError for an unknown model or search, or an option that the search lacks."""
    from diffcls.models import given

    model = model_of(options, spec)
    build_search(options, spec)
    check_allocation(options)
    check_rejection(options)
    check_class_prior(options, spec)
    check_fitted_search(options)
    given.check(model)
    control_options.check_control(options, model)


def load_denoiser(
    options: ClassifierOptions, spec: DatasetSpec, prompts: int = 1
) -> tuple[Denoiser, str]:
    """Load the diffusion model that the options name; returns it and its device.

    Args:
        options: options of the evaluation.
        spec: catalog entry of the data set, for its default model.
        prompts: number of prompts that stay encoded.

    Raises:
        UsageError: for a model that does not fit in memory.
        UsageError, ModelError: see `diffcls.models.given.load`.
    """
    from diffcls.models import given

    model = model_of(options, spec)
    if options.check_memory:
        check_memory(options, model, batch_size(options.batch_size), prompts)
    denoiser = given.load(
        model,
        options.device,
        options.dtype,
        options.img_size,
        lora=options.lora,
        concepts=tuple(options.concept or ()),
        model_config=options.model_config,
        variant=options.variant,
        memory=memory_options(options),
    )
    denoiser = control_options.with_control(options, model, denoiser)
    return denoiser, str(denoiser.device)


def diffusion(options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet) -> Built:
    """Load the diffusion classifier that `options` define.

    Args:
        options: options of the evaluation.
        spec: catalog entry of the data set, for its defaults.
        prompts: candidate classes.

    Raises:
        UsageError, ModelError: see `build_search` and `diffcls.models.given.load`.
    """
    name, search = build_search(options, spec)
    loss = build_loss(options, spec)

    from diffcls.classifiers.batch_timing import choose_batch_size
    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.classifiers.rejection import with_rejection
    from diffcls.models.text_defaults import recorded_of
    from diffcls.scoring.scoring import Scoring

    scoring = Scoring(loss, options.weighting)
    denoiser, device = load_denoiser(options, spec, len(prompts))
    if denoiser.labels is not None:
        prompts = _prompts_by_id(options, denoiser.labels, prompts)
    elif options.class_ids:
        raise UsageError(
            "--class-ids is for class-conditional models",
            given=denoiser.card.name,
            todo="remove it",
        )
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
        background=background_of(options),
    )
    control_options.use_maps(options, method)
    if options.batch_size in (None, "auto") and denoiser.device.type != "cpu":
        choose_batch_size(method.scorer)
    built = Built(
        method=method,
        card=denoiser.card,
        prompts=prompts,
        search=name,
        search_options=search_options(search),
        img_size=denoiser.image_size,
        loss=loss,
        dtype=str(denoiser.dtype).removeprefix("torch."),
        device=device,
        most_evaluations=most_evaluations(search, prompts, options.aggregate, options.reject),
        supervision="hybrid" if name == "propose" else None,
        timesteps=denoiser.schedule.timesteps[method.plan.indices],
        noise=_file_hash(options.noise_path),
        allocation=allocation,
        interpolation=denoiser.interpolation,
        text_defaults=recorded_of(denoiser),
        control=control_options.recorded(options, model_of(options, spec)),
        vae_tiling=denoiser.autoencoder is not None
        and denoiser.autoencoder.is_tiled(denoiser.image_size),
        draws={
            "indices": method.plan.indices,
            "alpha": denoiser.schedule.alpha,
            "sigma": denoiser.schedule.sigma,
        },
    )
    if options.class_bias is not None or options.combine is not None:
        from diffcls.classifiers.class_prior_fit import with_class_prior

        return with_class_prior(built, options, spec)
    if name in SEARCH_FITS:
        built = SEARCH_FITS.load(name)(built, options, search)
    return with_rejection(built, options, options.seed) if options.reject else built


def describe(
    options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet
) -> Description | None:
    """What defines the numbers of the diffusion classifier, without torch; else None.

    It is None for models in memory, for single files and for models that read class ids, whose
    image size and prompts depend on the loaded model, and where the precision depends on an
    accelerator.
    """
    from diffcls.models import devices, given

    dtype = devices.dtype_without_torch(options.dtype, options.device)
    if search_name(options) in SEARCH_FITS:  # the images of the fit are read first
        return None
    if options.reject or options.class_bias is not None or options.combine is not None:
        # the posterior needs the fit
        return None
    # whether images are tiled depends on the autoencoder; with a ControlNet, two cards are read
    others = (options.class_ids, options.model_config, options.vae_tiling, options.control)
    if dtype is None or any(others):
        return None
    concepts = tuple(options.concept or ())
    card = given.card_of_text_model(
        model_of(options, spec), options.lora, options.variant, concepts
    )
    if card is None:
        return None
    batch_size(options.batch_size)  # refuses what cannot be a batch size
    name, search = build_search(options, spec)
    return Description(
        card=card,
        prompts=prompts,
        search=name,
        search_options=search_options(search),
        loss=build_loss(options, spec),
        dtype=dtype,
        noise=_file_hash(options.noise_path),
        supervision="hybrid" if name == "propose" else None,
        allocation=build_allocation(options, card),
        text_defaults=given.text_defaults_of(model_of(options, spec)),
    )


def _prompts_by_id(
    options: ClassifierOptions, labels: Sequence[str], prompts: PromptSet
) -> PromptSet:
    """The same candidates for a class-conditional model."""
    if options.prompts or options.template:
        raise UsageError(
            f"{'--prompts' if options.prompts else '--template'} needs a text-conditional model",
            todo="remove it; --class-ids FILE maps candidates to the model's classes",
        )
    if options.reject:
        from diffcls.classifiers.rejection import class_ids_of_candidates

        by_id = class_ids_of_candidates(options, labels, prompts)
    else:
        by_id = class_prompts(prompts.class_names, labels, options.class_ids)
    return replace(by_id, own=prompts.own or bool(options.class_ids))


def batch_size(given: int | str | None) -> int:
    """Rows of a forward pass, from the value of ``--batch-size``.

    Raises:
        UsageError: for anything but an integer above 0, ``auto`` or None.
    """
    if given in (None, "auto"):
        return DEFAULT_BATCH_SIZE
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
    return hash_file(path)


DIFFUSION = MethodKind(
    check,
    diffusion,
    MODEL_OPTIONS
    | PROMPT_OPTIONS
    | {"class_ids", "search", "draws", "confidence", "max_evaluations", "candidates", "stages"}
    | {"fit_images", "fit_classes"}
    | {"n_samples", "to_keep", "n_trials", "loss", "weighting", "allocation", "aggregate", "vote"}
    | {"interpolation", "noise_path", "save_errors", "budget"}
    | {"reject", "multi_label", "background_prompt", "class_bias", "combine"}
    | {"vae_tiling", "compile", "quantize", "concept", "control", "control_model"},
    describe,
)
"""Diffusion classifier: the class whose prompt gives the lowest denoising error."""
