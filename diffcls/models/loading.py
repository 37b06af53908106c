"""Model loading: opens the denoiser of a name, folder, file or Hub id."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.models import card as cards
from diffcls.models import hub, single_file
from diffcls.models.adapters import adapted
from diffcls.models.components import open_pipeline
from diffcls.models.concept_files import parse as parse_concept
from diffcls.models.concepts import add as add_concept
from diffcls.models.denoiser import Denoiser, ModelCard
from diffcls.models.devices import default_dtype
from diffcls.models.family_table import FAMILY_TABLE, network_part
from diffcls.models.hub_names import MODELS
from diffcls.models.kept import kept
from diffcls.models.lora import merge
from diffcls.models.lora import revision_of as lora_revision
from diffcls.models.memory_options import WHOLE_ON_DEVICE, MemoryOptions
from diffcls.models.model_index import INDEX, ModelIndex, read_index
from diffcls.models.quiet import loading
from diffcls.models.revision import files_below, revision_of
from diffcls.support.errors import ModelError, UsageError, unknown_name
from diffcls.support.hashing import hash_file, hash_json
from diffcls.support.paths import expand

if TYPE_CHECKING:
    import torch

WEIGHTS = Path(__file__).parents[1] / "assets" / "weights"
CARD = cards.CARD


def bundled() -> list[str]:
    """Names of the bundled models."""
    return sorted(p.parent.name for p in WEIGHTS.glob(f"*/{INDEX}"))


@dataclass(frozen=True)
class ModelFiles:
    """Local files of a model.

    Args:
        path: folder of a pipeline, or a single file.
        name: name on the leaderboard; None: that of its card or its folder.
        commit: commit on the Hub; None: a hash of the content is the revision.
    """

    path: Path
    name: str | None = None
    commit: str | None = None


def check_name(name: str) -> None:
    """Check a name without opening a model or contacting the Hub.

    Raises:
        UsageError: for an unknown name, with the allowed names and a "did you mean"; or a file that
            is not a safetensors file.
        ModelError: for a folder without a pipeline.
    """
    if not isinstance(name, str | os.PathLike):
        raise UsageError(
            "the model is not a name or path",
            given=type(name).__name__,
            todo="for a pipeline in memory: ZeroShotImageClassifier.from_pipeline(pipe)",
        )
    path = Path(expand(name))
    if name in bundled():
        return
    # not Path's own tests, which fail on a name that is too long
    if os.path.isfile(path):
        single_file.check(path)
    elif os.path.isdir(path):
        if not (path / INDEX).is_file():
            raise ModelError(
                "not a diffusers pipeline folder",
                given=name,
                allowed="a folder with model_index.json, as save_pretrained writes it",
            )
    elif hub.named(name) is None:
        forms = ["ID@revision on the Hub", "PATH of a pipeline folder", "FILE.safetensors"]
        raise unknown_name("model", name, [*bundled(), *MODELS, *forms])


def find(
    name: str,
    half: bool = False,
    weights: bool = True,
    variant: str | None = None,
    without: str = "",
    editor: bool = False,
) -> ModelFiles:
    """Find a model by bundled or short name, path, or Hub id; Hub models are downloaded.

    Args:
        name: bundled or short name, path, or Hub id.
        half, weights, variant, without, editor: see `diffcls.models.hub.fetch`.

    Raises:
        UsageError, ModelError: see `check_name` and `diffcls.models.hub.fetch`.
    """
    check_name(name)
    if name in bundled():
        return ModelFiles(WEIGHTS / name)
    path = Path(expand(name))
    if os.path.exists(path):
        return ModelFiles(path, path.stem if path.is_file() else None)
    model = hub.named(name)
    if model is None:
        raise unknown_name("model", name, MODELS)
    folder, commit = hub.fetch(model, half, weights, variant, without, editor)
    return ModelFiles(folder, name.partition("@")[0], commit)


def read_card(files: ModelFiles, editor: bool = False) -> ModelCard:
    """The card of a model; its revision is the Hub's commit, or see `diffcls.models.revision`.

    Args:
        files: its local files.
        editor: see `diffcls.models.model_index.read_index`.
    """
    folder = files.path
    if folder.is_file():
        return ModelCard(name=files.name or folder.stem, revision=hash_file(folder))
    card = cards.card_of(cards.read_stored(folder), folder, files.name)
    if files.commit:
        return replace(card, revision=files.commit)
    index = read_index(folder, editor)
    return replace(card, revision=revision_of(_files_of(index), folder, card))


def family_of(name: str) -> str:
    """Name of the pipeline class of a model; empty for a single file, which does not name one."""
    place = find(name, weights=False).path
    return "" if place.is_file() else read_index(place).family


def network_of(name: str) -> str | None:
    """Class of a model's denoising network, from its index; None for a single file."""
    place = find(name, weights=False).path
    if place.is_file():
        return None
    index = read_index(place)
    part = index.parts[network_part(index.family)]
    return None if part is None else part[1]


@kept
def card_of_text_model(
    name: str,
    lora: str | None = None,
    variant: str | None = None,
    concepts: tuple[str, ...] = (),
) -> ModelCard | None:
    """The card of a text-conditional pipeline, without loading its weights; None for other models.

    Raises:
        UsageError, ModelError: see `find`.
    """
    place = find(name, weights=False)
    if place.path.is_file():
        return None
    if FAMILY_TABLE[read_index(place.path).family].reads_class_ids:
        return None
    added = [] if lora is None else [lora_revision(lora)]
    added += [parse_concept(one).revision for one in concepts]
    return _with(_of_variant(read_card(place), variant), added)


def _with(card: ModelCard, added: list[str]) -> ModelCard:
    """The card of a model with a LoRA or concepts, whose parts of the revision are `added`."""
    return replace(card, revision=" + ".join([card.revision, *added]))


def _of_variant(card: ModelCard, variant: str | None) -> ModelCard:
    """The card of the chosen weights of a model."""
    return card if variant is None else replace(card, revision=f"{card.revision} {variant}")


def trained_on(name: str) -> tuple[str, ...]:
    """Data sets of a local model's card, which alone is read; empty for other models."""
    folder = WEIGHTS / name if name in bundled() else Path(expand(name))
    return tuple(cards.read_stored(folder).get("trained_on", ()))


def images_seen(name: str) -> int | None:
    """Training images of a model trained with this package; None for others."""
    folder = find(name).path
    stored = cards.read_stored(folder) if folder.is_dir() else {}
    images = stored.get("images") or stored.get("recipe", {}).get("images")
    earlier = stored.get("continued_from", {}).get("images", 0)
    return None if images is None else int(images) + int(earlier)


def _files_of(index: ModelIndex) -> list[Path]:
    """All files that a pipeline is loaded from: the index, and those of its parts."""
    folder = index.path.parent
    parts = [folder / name for name in index.named]
    return [index.path, *(path for part in parts for path in files_below(part))]


@kept
def load(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    img_size: int | None = None,
    lora: str | None = None,
    model_config: str | None = None,
    variant: str | None = None,
    memory: MemoryOptions = WHOLE_ON_DEVICE,
    concepts: tuple[str, ...] = (),
    editor: bool = False,
) -> Denoiser:
    """Load the denoiser of a model.

    Args:
        name: see `find`.
        device, dtype: device and precision; float32 by default on a CPU, bfloat16 elsewhere.
        img_size: side of the images in pixels; default: that of the model's training.
        lora: ``FILE`` or ``FILE:WEIGHT``, merged into the model.
        model_config: for a single file: the name or folder of the model that completes it.
        variant: which weights of a folder are read, such as ``non_ema``, where a part has several.
        memory: how the model is held in memory.
        concepts: learned concepts to add, see `diffcls.models.concepts.add`.
        editor: whether instruction editors are loaded too, which classify no images.

    Raises:
        UsageError: for an unknown name, or a single file that is to be quantised.
        ModelError: for a family that is not supported, a missing file or tensor, or weights that
            are not finite.
    """
    import torch

    dtype = default_dtype(str(device)) if dtype is None else dtype
    half = dtype != torch.float32
    files = find(name, half, variant=variant, editor=editor)
    completion = None
    if files.path.is_file():
        completion = _completion(files.path, model_config, half)
    elif model_config is not None:
        raise UsageError(
            "--model-config completes a single file, and --model is a pipeline",
            given=model_config,
            todo="remove --model-config",
        )
    index = read_index((completion or files).path, editor)
    card = _of_variant(read_card(files, editor), variant)
    if completion is not None:  # tokenizer, schedule and whatever the file lacks
        both = [card.revision, read_card(completion).revision]
        card = replace(card, revision=hash_json(both))
    with loading():
        if completion is None:
            pipeline = open_pipeline(
                index, dtype, variant=variant, memory=memory, device=str(device)
            )
        else:
            _refuse_for_file(memory)
            pipeline = single_file.open_file(files.path, index, dtype)
        added = [] if lora is None else [merge(pipeline, lora)]
        added += [add_concept(pipeline, one, card) for one in concepts]
        card = _with(card, added)
        given = str(index.path.parent)
        return adapted(index.family, pipeline, card, device, dtype, img_size, given, memory)


def _refuse_for_file(memory: MemoryOptions) -> None:
    for flag, value in (("--quantize", memory.quantise), ("--device-map", memory.device_map)):
        if value is not None:
            raise UsageError(
                f"{flag} is for pipeline folders, and --model is a single file",
                given=str(value),
                todo="remove it, or save the pipeline as a folder with save_pretrained",
            )


def _completion(path: Path, model_config: str | None, half: bool) -> ModelFiles:
    """The model that completes a single file, with the weights that the file lacks."""
    config = model_config or single_file.completed_by(path)
    if not single_file.holds_network_alone(path):
        return find(config, weights=False)
    part = network_part(read_index(find(config, weights=False).path).family)
    return find(config, half, without=part)
