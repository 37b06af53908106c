"""Learning run: a concept's folder, from images to card, with resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.concepts.card import card_of, readme
from diffcls.concepts.images import ConceptImages, in_folder
from diffcls.concepts.options import ConceptOptions, ConceptSettings, plan_of
from diffcls.data import catalog
from diffcls.data.training_captions import TEMPLATES
from diffcls.models.concept_files import CARD, EMBEDDINGS, LORA
from diffcls.support.errors import DataError, RecordError, UsageError
from diffcls.support.files import check_output, locked, write_bytes, write_text
from diffcls.support.stored_json import parse_json

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.concepts.task import Learned
    from diffcls.models.denoiser import Denoiser, ModelCard

WORK = "training"
"""Folder in that of the concept: checkpoints to resume from, and curves."""
PLAN = "settings.json"
"""File in the folder of the training that says what decides the result."""
STATE = ("*.pt", "*-curve.jsonl", "prior.safetensors")
"""Files in the folder of the training from which a learning resumes."""


def learn_concept(options: ConceptOptions) -> dict[str, Any]:
    """Learn a concept from a folder of images, or resume it; returns its card.

    Args:
        options: see `ConceptOptions`.

    Raises:
        UsageError: for a folder with a concept, or one that was begun with other settings.
        UsageError, DataError, ModelError: see `check`, `diffcls.concepts.images.in_folder` and
            `diffcls.models.given.load`.
        KeyboardInterrupt: after Ctrl-C, once the current step is saved.
    """
    from diffcls.concepts.prompt_lengths import check_prompts
    from diffcls.models import given

    check(options)
    folder, settings = options.folder(), options.settings()
    images = in_folder(options.images, "--images")
    against = options.against_images and in_folder(options.against_images, "--against-images")
    denoiser = given.load(options.model, options.device, options.dtype, options.img_size)
    check_model(denoiser)
    check_prompts(denoiser, settings, templates_of(settings, denoiser.card))
    plan = plan_of(settings) | _facts(denoiser, settings, images, against or None)
    _begin(folder / WORK / PLAN, plan)
    learned = learn(
        denoiser,
        settings,
        images.encode(denoiser, settings.augment, settings.seed),
        against.encode(denoiser) if against else None,
        folder / WORK,
        options.quiet,
    )
    card = card_of(options, plan, learned, denoiser, folder / WORK)
    write_bytes(folder / learned.file, _safetensors(learned.tensors))
    write_text(folder / "README.md", readme(card))
    write_text(folder / CARD, json.dumps(card, indent=2, allow_nan=False) + "\n")
    return card


def check(options: ConceptOptions) -> None:
    """Check names and folders before anything heavy is loaded.

    Raises:
        UsageError: for an option that the method does not read, an unknown model or device, and a
            folder with a finished concept.
        DataError: for a folder of images that is missing or empty, and images of the concept among
            those of other classes.
        ModelError: for a class-conditional model, which has no words.
    """
    from diffcls.models import given, loading
    from diffcls.models.concepts import check_family_name
    from diffcls.models.devices import check_device, check_dtype

    options.settings().check()
    if options.against_images and "against_images" not in options.kind().reads:
        raise UsageError(
            f"--against-images does not apply to --method {options.method}",
            todo="remove it, or choose --method discriminative",
        )
    check_device(options.device)
    check_dtype(options.dtype)
    given.check(options.model)
    _check_images(options)
    family = loading.family_of(options.model)
    if family:  # a single file does not name one
        check_family_name(family)
    folder = options.folder()
    if (folder / CARD).exists():
        raise UsageError(
            "the output folder already contains a learned concept",
            given=str(folder),
            todo="choose another --output-dir, or move the folder away",
        )
    _check_files(folder)
    check_output(folder)


def _check_files(folder: Path) -> None:
    """Raise UsageError for files that no learning of ours has begun, and that it would change."""
    if (folder / WORK / PLAN).exists():
        return
    written = (EMBEDDINGS, LORA, "README.md", *(f"{WORK}/{name}" for name in STATE))
    found = sorted(path for name in written for path in folder.glob(name))
    if found:
        raise UsageError(
            "the output folder contains files that the learning would overwrite or read",
            given=", ".join(path.relative_to(folder).as_posix() for path in found),
            todo="choose another --output-dir, or move the files away",
        )


def _check_images(options: ConceptOptions) -> None:
    images = in_folder(options.images, "--images")
    if options.against_images:
        against = in_folder(options.against_images, "--against-images")
        common = len({*images.hashes()} & {*against.hashes()})
        if common:
            raise DataError(
                "--against-images: images of the concept are among those of other classes",
                given=f"{common} of {len(images)}",
                todo="remove them from one of the folders",
            )


def check_model(denoiser: Denoiser) -> None:
    """Raise ModelError for a model that cannot have new words."""
    from diffcls.models.concepts import check_family

    check_family(denoiser.pipeline)  # type: ignore[attr-defined]


def learn(
    denoiser: Any,
    settings: ConceptSettings,
    x0: Tensor,
    other: Tensor | None = None,
    folder: Path | None = None,
    quiet: bool = True,
) -> Learned:
    """Learn a concept from encoded images.

    Args:
        denoiser: the model, whose pipeline gets the new token.
        settings: see `ConceptSettings`.
        x0: (N, C, h, w) encoded images of the concept.
        other: (M, C, h, w) encoded images of other classes, or None.
        folder: place of checkpoints and curves; None: keep neither.
        quiet: no progress bar.

    Raises:
        UsageError, ModelError: see `diffcls.concepts.prompt_lengths.check_prompts`.
    """
    from diffcls.concepts.prompt_lengths import check_prompts
    from diffcls.concepts.task import LearningTask

    templates = templates_of(settings, denoiser.card)
    check_prompts(denoiser, settings, templates)
    task = LearningTask(denoiser, settings.name, x0, settings, templates, other, folder, quiet)
    return settings.kind().learn(task)


def templates_of(settings: ConceptSettings, card: ModelCard) -> tuple[str, ...]:
    """The templates that were given; else those for the model."""
    return settings.template or templates_for(card)


def templates_for(card: ModelCard) -> tuple[str, ...]:
    """Neutral templates, and those of the data sets that a model was trained on."""
    own = [
        template
        for name in card.trained_on
        if name in catalog.SPECS
        for template in catalog.find(name).templates
    ]
    return tuple(dict.fromkeys([*own, *TEMPLATES]))


def _facts(
    denoiser: Any, settings: ConceptSettings, images: ConceptImages, against: ConceptImages | None
) -> dict[str, Any]:
    """What else decides the result: model, templates, images, and precision."""
    card = denoiser.card
    facts: dict[str, Any] = {
        "template": templates_of(settings, card),
        "model": {"name": card.name, "revision": card.revision},
        "img_size": denoiser.image_size,
        "dtype": str(denoiser.dtype).removeprefix("torch."),
        "images": {"count": len(images), "names": list(images.names), **_hashes(images)},
    }
    if against is not None:
        facts["against_images"] = {"count": len(against), **_hashes(against)}
    return facts


def _hashes(images: ConceptImages) -> dict[str, Any]:
    """Hashes by which scored images are recognised, and one of what is learned from."""
    return {"hashes": images.hashes(), "pixels": images.pixel_hash()}


def _begin(path: Path, plan: dict[str, Any]) -> None:
    """Store what decides the result, or compare it with what a begun learning stored.

    Raises:
        UsageError: for other settings, images or another model.
        RecordError: for stored settings that cannot be read.
    """
    plan = json.loads(json.dumps(plan))
    with locked(path):
        if not path.exists():
            write_text(path, json.dumps(plan, indent=2) + "\n")
            return
    try:
        begun = parse_json(path.read_bytes())
        changed = sorted(k for k in {*begun, *plan} if begun.get(k) != plan.get(k))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecordError(
            f"the settings of a begun concept cannot be read ({error})",
            given=str(path),
            todo="move the concept's folder away, then rerun the same command",
        ) from error
    if changed:
        raise UsageError(
            "the output folder contains a concept that was begun with other settings",
            given={k: plan.get(k) for k in changed},
            allowed=f"{ {k: begun.get(k) for k in changed} }",
            todo="resume with these, or choose another --output-dir",
        )


def _safetensors(tensors: Any) -> bytes:
    from safetensors.torch import save

    return save({k: t.contiguous() for k, t in tensors.items()}, metadata={"format": "pt"})
