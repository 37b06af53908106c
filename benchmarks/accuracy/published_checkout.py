"""A checkout of the published repository (Li et al. 2023): its prompts, commands and functions."""

from __future__ import annotations

import csv
import importlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from benchmarks.accuracy.makers_copies import DATASETS, Makers
from diffcls.data import catalog
from diffcls.support.errors import UsageError

SCRIPT, DIT_SCRIPT, COMMANDS = "eval_prob_adaptive.py", "eval_prob_dit.py", "commands.md"
STUBS = {"imagenetv2_pytorch": "ImageNetV2Dataset"}
"""Module that the scripts import for other data sets -> the class that they import from it."""
DIT_STUBS = {"DiT.models": "DiT_XL_2", "DiT.download": "find_model"}
"""The same of the DiT repository, for loading its own weights."""
FIRST_DOG = "american bulldog"


@dataclass(frozen=True)
class Checkout:
    """A checkout in a folder.

    Args:
        root: the folder.

    Raises:
        UsageError: for a folder that lacks the scripts.
    """

    root: Path

    def __post_init__(self) -> None:
        for name in (SCRIPT, DIT_SCRIPT, COMMANDS, "prompts"):
            if not (self.root / name).exists():
                raise UsageError(
                    "CHECKOUT is no checkout of the published repository",
                    given=f"{self.root}, without {name}",
                    todo="git clone diffusion-classifier/diffusion-classifier",
                )

    @property
    def has_dit(self) -> bool:
        """Whether the DiT repository was cloned into the checkout, as its README requires."""
        return (self.root / "DiT" / "diffusion" / "gaussian_diffusion.py").is_file()

    def prompts(self, name: str) -> list[dict[str, str]]:
        """Rows of the published prompts of a data set, in the order of ``classidx``."""
        with open(self.prompts_file(name), newline="", encoding="utf-8") as file:
            return sorted(csv.DictReader(file), key=lambda row: int(row["classidx"]))

    def prompts_file(self, name: str) -> Path:
        """The CSV of a data set, named as by the published script."""
        published = {full: alias for alias, full in catalog.ALIASES.items()}.get(name, name)
        return self.root / "prompts" / f"{published}_prompts.csv"

    def commands(self) -> dict[str, list[str]]:
        """Data set -> the arguments of its published command line, from `COMMANDS`."""
        text = (self.root / COMMANDS).read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [shlex.split(line) for line in text.splitlines() if SCRIPT in line]
        found = [line[line.index(SCRIPT) + 1 :] for line in lines]
        return {catalog.find(line[line.index("--dataset") + 1]).name: line for line in found}

    def makers(self) -> Makers:
        """The makers' class names, from the checkout's metadata and lists, not from its prompts."""
        metadata = self.root / "diffusion" / "dataset" / "objectnet_metadata"
        index = json.loads(self._read("diffusion/imagenet_class_index.json"))
        pets = json.loads(self._read("diffusion/templates.json"))["pets"]["classes"]
        shared = (metadata / "objectnet_to_imagenet_1k.json").read_text(encoding="utf-8")
        labels = (metadata / "folder_to_objectnet_label.json").read_text(encoding="utf-8")
        overlap = json.loads(shared)
        names = {name: [row["classname"] for row in self.prompts(name)] for name in DATASETS}
        # the script replaces the slash, because its names become folders
        names["fgvc_aircraft"] = [name.replace("_", "/") for name in names["fgvc_aircraft"]]
        return Makers(
            names=names,
            cats=pets[: pets.index(FIRST_DOG)],
            objectnet_labels={k: v for k, v in json.loads(labels).items() if v in overlap},
            objectnet_shared=list(overlap),
            wordnet_ids=[index[str(i)][0] for i in range(1000)],
        )

    def _read(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")

    @contextmanager
    def script(self) -> Iterator[ModuleType]:
        """The module ``eval_prob_adaptive``, on the CPU."""
        with self._imported(SCRIPT, STUBS) as module:
            yield module

    @contextmanager
    def dit_script(self) -> Iterator[ModuleType]:
        """The module ``eval_prob_dit``, on the CPU, with the DiT repository's diffusion."""
        with self._imported(DIT_SCRIPT, {**STUBS, **DIT_STUBS}) as module:
            yield module

    @contextmanager
    def _imported(self, file: str, stubs: dict[str, str]) -> Iterator[ModuleType]:
        """A script of the checkout: unchanged but for the device and the progress bar.

        Its code is executed. The modules in `stubs` need not be installed: they read data sets and
        weights that no comparison uses.
        """
        folder, modules, path = Path.cwd(), dict(sys.modules), list(sys.path)
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the checkout stays clean
        for name, attribute in stubs.items():
            stub = ModuleType(name)
            setattr(stub, attribute, object)
            sys.modules[name] = stub
        sys.path.insert(0, str(self.root.resolve()))
        try:
            os.chdir(self.root)  # the script reads files relative to the checkout
            module: Any = importlib.import_module(Path(file).stem)
            module.device = "cpu"
            module.tqdm = SimpleNamespace(trange=_no_progress)
            yield module
        finally:
            os.chdir(folder)
            sys.path[:], sys.dont_write_bytecode = path, writes
            for name in _own_modules(sys.modules, stubs, file):
                del sys.modules[name]
            sys.modules.update({k: v for k, v in modules.items() if k not in sys.modules})


def _no_progress(count: int, **_: Any) -> range:
    return range(count)


def _own_modules(modules: dict[str, ModuleType], stubs: dict[str, str], file: str) -> Sequence[str]:
    """Names of the modules that came from the checkout or stand for others."""
    own = (Path(file).stem, "diffusion", "DiT", *stubs)
    return [name for name in modules if name in own or name.split(".")[0] in ("diffusion", "DiT")]
