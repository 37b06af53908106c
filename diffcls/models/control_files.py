"""Files of ControlNets: found by name, folder or Hub id, opened part by part as pipelines are."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.data.seen_images import file_in
from diffcls.models import card as cards
from diffcls.models import hub, loading
from diffcls.models.components import open_part
from diffcls.models.denoiser import ModelCard
from diffcls.models.family_table import AUTOENCODERS, CONTROL_NETS, DIFFUSERS, FAMILY_TABLE
from diffcls.models.hub_names import MODELS, HubModel
from diffcls.models.json_files import read_json
from diffcls.models.loading import WEIGHTS
from diffcls.models.model_argument import Model, is_name, shown
from diffcls.models.quiet import loading as loading_quietly
from diffcls.models.revision import files_below
from diffcls.models.weight_files import WEIGHTS as WEIGHT_NAME
from diffcls.models.weight_files import choose_variant, variants_of
from diffcls.support.errors import ModelError, UsageError, unknown_name
from diffcls.support.hashing import hash_files
from diffcls.support.paths import expand

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
PREFIX = "control-"
"""What the names of bundled ControlNets begin with; the rest is the data set's."""


@dataclass(frozen=True)
class ControlFiles:
    """Local files of a ControlNet.

    Args:
        path: its folder.
        name: name in tables and messages.
        revision: its commit on the Hub, or a hash of its files.
        kind: class of diffusers that its config names.
        trained_on: data sets that its card names.
        seen_images: file with the hashes of its training data, see `diffcls.data.seen_images`.
        trained_with: model that it was trained with, by its card; empty if that is not known.
        control: computed condition that it was trained on, by its card; empty if not known.
    """

    path: Path
    name: str
    revision: str
    kind: str
    trained_on: tuple[str, ...] = ()
    seen_images: Path | None = None
    trained_with: str = ""
    control: str = ""

    @property
    def card(self) -> ModelCard:
        """Its card, with its training data."""
        return ModelCard(
            self.name, self.revision, trained_on=self.trained_on, seen_images=self.seen_images
        )


def bundled() -> list[str]:
    """Names of the bundled ControlNets."""
    return sorted(path.parent.name for path in WEIGHTS.glob(f"{PREFIX}*/{CONFIG}"))


def default_for(model: object) -> str | None:
    """The bundled ControlNet of a bundled model; None where there is none."""
    for name in bundled():
        if cards.read_stored(WEIGHTS / name).get("trained_with") == model:
            return name
    return None


def class_for(family: str, given: str) -> str:
    """Class of diffusers of the ControlNets that steer a family of models.

    Args:
        family: name of the pipeline's class.
        given: the model, for the message.

    Raises:
        UsageError: for a family without ControlNets.
    """
    known = FAMILY_TABLE.get(family)
    if known is None or not known.control:
        reads_ids = known is not None and known.reads_class_ids
        why = "a class-conditional model has no words" if reads_ids else f"a {family}"
        has_latents = known is not None and any(name in known.parts for name in AUTOENCODERS)
        why = why if has_latents else "a model of pixels has no autoencoder"
        raise UsageError(
            "--control: no ControlNet steers models of this family",
            given=f"{given}: {why}",
            allowed=", ".join(name for name, one in FAMILY_TABLE.items() if one.control),
        )
    return known.control


def check_family(model: Model) -> None:
    """Check that ControlNets steer a model, unless only the Hub knows its family.

    Raises:
        UsageError: see `class_for`.
    """
    if not is_name(model):
        class_for(type(model).__name__, shown(model))
        return
    name = os.fspath(model)
    if name in loading.bundled() or os.path.isdir(expand(name)):
        class_for(loading.family_of(name), name)


def check_name(name: str) -> None:
    """Check a name without opening a ControlNet or contacting the Hub.

    Raises:
        UsageError: for a name that is no bundled ControlNet, no folder and no Hub id.
        ModelError: for a folder of something else.
    """
    if name in bundled():
        return
    path = Path(expand(name))
    if os.path.isdir(path):
        _kind_of(path)
    elif name in MODELS or hub.named(name) is None:
        forms = ["PATH of a folder that save_pretrained wrote", "ID@revision on the Hub"]
        raise unknown_name("ControlNet", name, [*bundled(), *forms])


def find(name: str, half: bool = False) -> ControlFiles:
    """The files of a ControlNet; those on the Hub are downloaded unless they are cached.

    Args:
        name: a bundled name, a folder, or a Hub id.
        half: prefer weights in half precision, if the repository has them.

    Raises:
        UsageError, ModelError: see `check_name` and `diffcls.models.hub.fetch_files`.
    """
    local, model = _place_of(name)
    if model is not None:
        folder, commit = _fetch(model, half)
        return ControlFiles(folder, name.partition("@")[0], commit, _kind_of(folder))
    stored = cards.read_stored(local)
    return ControlFiles(
        local,
        stored.get("name") or local.resolve().name,
        revision_of(local),
        _kind_of(local),
        tuple(stored.get("trained_on", ())),
        file_in(local),
        stored.get("trained_with", ""),
        stored.get("recipe", {}).get("control", ""),
    )


def config_folder(name: str) -> Path:
    """The folder with the config of a ControlNet, of which no weights are downloaded or read.

    Args:
        name: see `find`.

    Raises:
        UsageError, ModelError: see `find`.
    """
    local, model = _place_of(name)
    return local if model is None else _fetch(model, weights=False)[0]


def _place_of(name: str) -> tuple[Path, HubModel | None]:
    """The local folder of a ControlNet, and its repository if there is no such folder."""
    check_name(name)
    local = WEIGHTS / name if name in bundled() else Path(expand(name))
    if local.is_dir():
        return local, None
    model = hub.named(name)
    if model is None:
        raise unknown_name("ControlNet", name, bundled())
    return local, model


def _fetch(model: HubModel, half: bool = False, weights: bool = True) -> tuple[Path, str]:
    """The folder of the downloaded files of a ControlNet, and their commit."""

    def choose(files: list[str], get: hub.Get) -> list[str]:
        top = [file for file in files if "/" not in file]
        if CONFIG not in top:
            raise ModelError("not a ControlNet of diffusers on the Hub", given=str(model))
        _kind_of(get([CONFIG]))
        if not weights:
            return [CONFIG]
        chosen = variants_of(top)[choose_variant(str(model), top, half)]
        indexes = [name for name in top if name.endswith(".index.json")]
        return [CONFIG, *chosen, *indexes]

    return hub.fetch_files(model, choose, "choose a folder: --control-model PATH")


def revision_of(folder: Path) -> str:
    """16 hexadecimal digits: the hash of config and weights."""
    own = [
        path
        for path in files_below(folder)
        if path.parent == folder and (path.name == CONFIG or WEIGHT_NAME.fullmatch(path.name))
    ]
    return hash_files(own, folder)


def open_files(files: ControlFiles, dtype: torch.dtype) -> Any:
    """The network of diffusers, in eval mode, on the CPU.

    Raises:
        ModelError: for files that are incomplete or damaged.
    """
    with loading_quietly(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised by the library's own classes
        return open_part(DIFFUSERS, files.kind, files.path, dtype, {}, None, {}).eval()


def _kind_of(folder: Path) -> str:
    """Class of a ControlNet, from the config in its folder.

    Raises:
        ModelError: for a folder without a config, or of another class.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(
            "not the folder of a ControlNet",
            given=str(folder),
            allowed="a folder with config.json, as diffusers' save_pretrained writes it",
        )
    kind = read_json(path).get("_class_name")
    if not isinstance(kind, str) or kind not in CONTROL_NETS:
        raise ModelError(
            "the folder has no ControlNet of a supported class",
            given=f"{kind} in {folder}",
            allowed=", ".join(CONTROL_NETS),
        )
    return kind
