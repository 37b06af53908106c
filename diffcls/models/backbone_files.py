"""Names of backbones and their files, checked before timm reads them, so that no code runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffcls.models import hub
from diffcls.models.clip_names import HUB, hub_model
from diffcls.models.configs import check_files, check_images, check_values
from diffcls.models.hub_names import HubModel
from diffcls.models.json_files import is_count, is_number, read_json, wrong_value
from diffcls.support.errors import ModelError, UsageError, unknown_name
from diffcls.support.hashing import hash_file, hash_files

INSTALL = 'pip install "diffcls[features]"'
CONFIG = "config.json"
CHECKPOINTS = (
    *("model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
)
"""Names of the file of weights, from the first choice to the last, as in timm."""
EXAMPLE = "vit_small_patch14_dinov2.lvd142m"
CONFIG_KEYS = (
    *("input_size", "fixed_input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std"),
    *("pool_size", "first_conv"),
)
"""Entries of timm's config that decide how images and weights are read; none names a place."""
CHOICES = {
    "interpolation": ("bicubic", "bilinear", "lanczos", "nearest", "random"),
    "crop_mode": ("center", "squash", "border"),
}
ARGUMENTS_OF_LOADING = (
    *("checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "features_only"),
)
"""Arguments of timm's factory that a folder may not set; those with ``pretrained`` neither."""


@dataclass(frozen=True)
class Source:
    """Where a backbone comes from.

    Args:
        name: its name, without a path.
        architecture: name in timm, without a tag.
        config: entries of `CONFIG_KEYS`.
        weights: the safetensors file.
        revision: hash of the weights, and of a folder's config.
        arguments: arguments of the architecture.
    """

    name: str
    architecture: str
    config: Mapping[str, Any]
    weights: Path
    revision: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def import_timm() -> Any:
    """The library timm.

    Raises:
        ModelError: if it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ModelError("--method features needs timm", given=str(error), todo=INSTALL) from None
    return timm


def check_name(name: str) -> None:
    """Check the name of a backbone without opening it or contacting the Hub.

    Args:
        name: ``ARCHITECTURE[.TAG]`` of timm, without a tag its default weights;
            ``ARCHITECTURE[.TAG]/FILE.safetensors``; a folder with ``config.json`` as timm writes
            it; or ``hf-hub:OWNER/NAME[@REVISION]``.

    Raises:
        UsageError: for an unknown name, with a "did you mean", or a file of another type.
        ModelError: if timm is not installed, or a folder has no config of timm.
    """
    timm = import_timm()
    if name.startswith(HUB):
        hub_model(name)
        return
    if Path(name).is_dir():
        if not (Path(name) / CONFIG).is_file():
            raise ModelError("not a timm folder", given=name, allowed=f"a folder with {CONFIG}")
        return
    model, _, file = name.partition("/")
    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        forms = [f"ARCHITECTURE.TAG such as {EXAMPLE}, as timm lists them"]
        forms += ["ARCHITECTURE/FILE.safetensors", "PATH", f"{HUB}OWNER/NAME"]
        meant = f"{HUB}{name}" if timm.is_model(file) else None  # timm/resnet50.a1_in1k
        raise unknown_name("backbone", name, timm.list_models(pretrained=True), forms, meant)
    tags = [known.partition(".")[2] for known in timm.list_pretrained(architecture)]
    if (tag and tag not in tags) or not (tags or file):
        raise unknown_name(f"weights of {architecture}", tag, [*tags, "FILE.safetensors"])
    if not file:
        return
    if not Path(file).is_file():
        raise UsageError("--backbone: no such file of weights", given=file)
    if Path(file).suffix != ".safetensors":
        raise UsageError("weights of the backbone are not a .safetensors file", given=file)


def find_source(name: str) -> Source:
    """The architecture and files of a backbone, downloaded unless cached.

    Raises:
        UsageError, ModelError: see `check_name` and `diffcls.models.hub.fetch_files`; for a config
            with wrong types, or weights that are no safetensors.
    """
    check_name(name)
    if name.startswith(HUB):
        model = hub_model(name)
        folder, _ = hub.fetch_files(model, _files_of(model, CHECKPOINTS, CONFIG), _LOCAL)
        return _source_of_folder(folder, model.id)
    if Path(name).is_dir():
        return _source_of_folder(Path(name), Path(name).resolve().name)
    model_name, _, file = name.partition("/")
    config = import_timm().get_pretrained_cfg(model_name)
    architecture, tag = model_name.partition(".")[0], config.tag
    path = Path(file) if file else _cached_weights(config, name)
    kept = {key: value for key, value in dataclasses.asdict(config).items() if key in CONFIG_KEYS}
    full = f"{architecture}.{tag}" if tag and (not file or "." in model_name) else architecture
    return Source(full, architecture, kept, path, hash_file(path))


_LOCAL = "choose files: --backbone ARCHITECTURE/FILE.safetensors, or a folder"


def _cached_weights(config: Any, name: str) -> Path:
    """The file of a tag's weights, downloaded unless cached."""
    if not config.hf_hub_id:
        raise ModelError(
            "weights of the backbone are not on the Hub as safetensors",
            given=name,
            allowed="ARCHITECTURE/FILE.safetensors",
            todo="convert a file that you trust with safetensors.torch.save_file",
        )
    repository, _, revision = str(config.hf_hub_id).rstrip("/").partition("@")
    model = HubModel(repository, revision)
    own = Path(config.hf_hub_filename or CHECKPOINTS[0]).with_suffix(".safetensors").name
    names = (own, *(name for name in CHECKPOINTS if name != own))
    folder, _ = hub.fetch_files(model, _files_of(model, names), _LOCAL)
    return _weights(folder, names)


def _files_of(model: HubModel, names: tuple[str, ...], *others: str) -> Any:
    """Choice of the files of a repository, see `diffcls.models.hub.fetch_files`."""

    def choose(files: list[str], _: hub.Get) -> list[str]:
        found = [file for file in names if file in files]
        missing = [other for other in others if other not in files]
        if missing or not found:
            raise ModelError(
                "not a timm model with safetensors on the Hub",
                given=str(model),
                allowed=f"{', '.join([*others, names[0]])}; pickles are never opened",
            )
        return [*others, found[0]]

    return choose


def _weights(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(
        "the folder of the backbone has no file of weights",
        given=str(folder),
        allowed=f"{' or '.join(names)}; pickles are never opened",
    )


def _source_of_folder(folder: Path, name: str) -> Source:
    """The source of a folder as timm's ``save_for_hf`` writes it."""
    check_files(folder)
    path = folder / CONFIG
    stored = read_json(path)
    config = stored.get("pretrained_cfg", stored)  # older versions write one object
    if not isinstance(config, dict):
        raise wrong_value(path, "pretrained_cfg", config, "an object, as timm writes it")
    architecture = stored.get("architecture")
    if not isinstance(architecture, str) or not import_timm().is_model(architecture):
        raise wrong_value(path, "architecture", architecture, "an architecture of timm")
    arguments = _arguments(path, stored.get("model_args", {}))
    _check_config(path, config)
    weights = _weights(folder, CHECKPOINTS)
    kept = {key: value for key, value in config.items() if key in CONFIG_KEYS}
    if kept.get("fixed_input_size") and arguments.get("img_size"):  # as timm reads it
        size = arguments["img_size"]
        kept["input_size"] = [3, *(size if isinstance(size, list) else [size, size])]
    return Source(name, architecture, kept, weights, hash_files([path, weights], folder), arguments)


def _arguments(path: Path, arguments: object) -> dict[str, Any]:
    """Arguments of the architecture, checked, without those of a head."""
    if not isinstance(arguments, dict):
        raise wrong_value(path, "model_args", arguments, "an object, as timm writes it")
    for key in arguments:
        if key in ARGUMENTS_OF_LOADING or "pretrained" in key:
            raise wrong_value(path, "model_args", key, "arguments of the architecture")
    if arguments.get("in_chans", 3) != 3:
        raise wrong_value(path, "in_chans", arguments["in_chans"], "3, for colour images")
    check_values(path, arguments)
    return {key: value for key, value in arguments.items() if key != "num_classes"}


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    check_values(path, {key: config[key] for key in CONFIG_KEYS if key in config})
    check_images(path, config, CHOICES)
    size = config.get("input_size", [3, 1, 1])
    if not (isinstance(size, list) and len(size) == 3 and size[0] == 3) or not all(
        is_count(side, 4096) and side for side in size[1:]
    ):
        raise wrong_value(path, "input_size", size, "3, height and width")
    crop = config.get("crop_pct", 1.0)
    if not (is_number(crop) and 0.01 <= crop <= 1):
        raise wrong_value(path, "crop_pct", crop, "a fraction up to 1")
    fixed = config.get("fixed_input_size", False)
    if not isinstance(fixed, bool):
        raise wrong_value(path, "fixed_input_size", fixed, "true or false")


def read_weights(source: Source, names: set[str]) -> dict[str, Any]:
    """The tensors of a backbone's file, without those of its classification head.

    Args:
        source: the backbone.
        names: names of the weights of the network without a head; others are kept too, where timm
            translates an older or another format, unless they begin as a head's do.
    """
    from safetensors.torch import load_file

    entry = import_timm().get_pretrained_cfg(source.architecture)
    heads = (entry.classifier if entry else None) or ()
    heads = (heads,) if isinstance(heads, str) else heads
    prefixes = tuple(f"{head.partition('.')[0]}." for head in heads)
    weights = load_file(source.weights)
    return {
        name: tensor
        for name, tensor in weights.items()
        if name in names or not name.startswith(prefixes)
    }
