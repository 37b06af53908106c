"""Training run: the base of all trainings, with its folder, resumption, curve and card."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from diffcls.data import catalog, seen_images
from diffcls.data.dataset import Dataset
from diffcls.data.left_out import images_without
from diffcls.data.load import load_dataset
from diffcls.data.own_data import announce
from diffcls.data.training_captions import caption
from diffcls.models.loading import CARD
from diffcls.support.environment import clock, describe_device, versions
from diffcls.support.errors import UsageError
from diffcls.support.files import check_output, locked, write_bytes, write_text
from diffcls.training.caption_batches import (
    Caption,
    CaptionBatch,
    new_captions,
    pooled_captions,
)
from diffcls.training.distributed import ProcessGroup
from diffcls.training.loop import Loop, Phase, Report
from diffcls.training.model_card import data_facts
from diffcls.training.recipe_table import RECIPES
from diffcls.training.recipes import Optimisation
from diffcls.training.run_files import DATA, RECIPE, WORK, check_begun, read_curve
from diffcls.training.validation import Validators

VOCABULARY_CAPTIONS = 20_000  # that a tokenizer is trained on


@dataclass
class TrainingRun(ABC):
    """Training of one model.

    Args:
        dataset: name of the data set; its training split is used, with labels as captions.
        recipe: everything that decides the weights but the seed.
        seed: seed of the initial weights and of all random choices.
        folder: the model's folder; checkpoints and curves lie in ``FOLDER/training``.
        data_root: folder of local data.
        without: names of classes whose images are left out, in training and validation.
        quiet: no progress bar.
        init: name or folder of a trained model to fine-tune; None: train from scratch.
        report_to: "tensorboard" writes curves to ``FOLDER/training/tensorboard`` as well.
        accumulate: gradient accumulation: batches per process and step.
        processes: data-parallel processes.
        points: number of points of the curve.
        validators: validation callbacks, for kinds of models that are validated as classifiers.
        command: the command line, for the card and the README.

    Raises:
        UsageError: for a folder with a trained model, or a training with another recipe.
        RecordError: for a stored recipe that cannot be read.
    """

    index: ClassVar[str]
    """File whose presence marks a model in the folder."""

    dataset: str
    recipe: Optimisation
    seed: int
    folder: Path
    data_root: str | None = None
    without: tuple[str, ...] = ()
    quiet: bool = False
    init: str | None = None
    report_to: str = "none"
    accumulate: int = 1
    processes: ProcessGroup = field(default_factory=ProcessGroup)
    points: int = 8
    validators: Validators | None = None
    command: str = "python -m diffcls.train"

    def __post_init__(self) -> None:
        self.work = self.folder / WORK
        self._hashes: bytes | None = None
        # the card is written last: without it a training of ours is unfinished
        unfinished = (self.work / RECIPE).exists() and not (self.folder / CARD).exists()
        if (self.folder / self.index).exists() and not unfinished:
            raise UsageError(
                "the output folder already contains a trained model",
                given=str(self.folder),
                todo="choose another --output-dir, or move the folder away",
            )
        self._begun_as = self._plan()
        self._check_recipe()
        check_output(self.folder)

    def _plan(self) -> dict[str, Any]:
        """What decides the weights, in plain JSON types."""
        plan = {"dataset": self.dataset, "seed": self.seed, **dataclasses.asdict(self.recipe)}
        if self.without:
            plan["without"] = sorted(self.without)
        if self.init:
            plan["init"] = self._open_card()[1]
        if self.processes.size * self.accumulate > 1:
            plan["batches_a_step"] = self.processes.size * self.accumulate
        return plan

    @property
    def _recipe_text(self) -> str:
        return json.dumps(self._begun_as, indent=2) + "\n"

    def _check_recipe(self) -> None:
        """Compare what decides the weights with what a begun training stored, if there is one."""
        check_begun(self.work / RECIPE, type(self.recipe), json.loads(self._recipe_text))

    def training_data(self) -> Dataset:
        """The training split; stderr says how a person's own data were understood.

        Raises:
            UsageError, DataError: see `diffcls.data.load.load_dataset` and
                `diffcls.data.left_out.images_without`.
            UsageError: if a begun training had other data of a person's own.
        """
        train = images_without(load_dataset(self.dataset, "train", self.data_root), self.without)
        if catalog.find(self.dataset).own:  # copies of a benchmark differ in revision alone
            self._begun_as[DATA] = train.revision
            self._check_recipe()
        if self.processes.is_main_process:
            announce(self.dataset, train)
        return train

    def begin(self) -> None:
        """Store what decides the weights, once data and models are known to be in order.

        A training that is refused before leaves nothing behind.
        """
        if self.processes.is_main_process:
            with locked(self.work / RECIPE) as path:
                if not path.exists():
                    write_text(path, self._recipe_text)
        self.processes.wait()
        self._check_recipe()  # of two that begin at once, one is the first

    def cost(self) -> dict[str, Optimisation]:
        """Lengths of the phases to train, by name."""
        return {"model": self.recipe}

    def _before(self) -> dict[str, Any]:
        """Name, revision, training images and hours of the model that is fine-tuned."""
        card, revision = self._open_card()
        earlier: dict[str, Any] = dict(card.get("continued_from", {}))
        return {
            "name": card["name"],
            "revision": revision,
            "images": card["recipe"]["images"] + earlier.get("images", 0),
            "hours": card["hours"] + earlier.get("hours", 0.0),
        }

    def trained_on(self, train: Dataset) -> list[str]:
        """Names of the data sets on which the model is not zero-shot; of its own ones first."""
        own = RECIPES.get(self.dataset)
        names = own.teaches if own and own.teaches else (train.name,)
        earlier = self._open_card()[0].get("trained_on", ()) if self.init else ()
        return list(dict.fromkeys([*names, *earlier]))

    @abstractmethod
    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        """Card and revision of the model that is fine-tuned."""

    def _captions(self, train: Dataset, labels: Sequence[int]) -> Caption:
        """Writer of captions, worded differently for each number."""

        def words(index: int, draw: int) -> str:
            label = labels[index]
            name = train.class_names[label]
            return caption(self.dataset, label, self.seed, draw, name, train.sentences)

        return words

    @property
    def _data_device(self) -> str:
        """Place of the data and of the random numbers."""
        return self.processes.device if self.recipe.on_device else "cpu"

    def _caption_batches(self, tokenizer: Any, words: Caption, labels: list[int]) -> CaptionBatch:
        size: int = getattr(self.recipe, "caption_pool", 0)
        if not size and not self.recipe.on_device:
            return new_captions(tokenizer, words)
        return pooled_captions(tokenizer, words, labels, size, self._data_device)

    def _loop(self, phase: Phase) -> Loop:
        self.begin()
        report: Report | None = None
        if self.report_to == "tensorboard" and self.processes.is_main_process:
            report = tensorboard(self.work / "tensorboard", phase.name)
        return Loop(
            phase,
            self.work,
            quiet=self.quiet,
            report=report,
            processes=self.processes,
            accumulate=self.accumulate,
        )

    def _write_hashes(self, folder: Path, train: Dataset) -> None:
        """Write the hashes of the training data, those of the fine-tuned model included."""
        if self._hashes is None:
            seen = seen_images.hashes_of(train)
            earlier = seen_images.file_in(Path(self.init)) if self.init else None
            self._hashes = (seen.union(seen_images.read(earlier)) if earlier else seen).to_bytes()
        write_bytes(folder / seen_images.SEEN_FILE, self._hashes)

    def _write_snapshot_card(
        self, folder: Path, images: int, facts: Mapping[str, Any], train: Dataset, note: str = ""
    ) -> None:
        """Write the card of a snapshot, with its number of images in place of the recipe's."""
        card = {
            "name": f"{self.folder.name}@{images:,}{note}",
            **facts,
            **({"continued_from": self._before()} if self.init else {}),
            "images": images,
            "seed": self.seed,
            "recipe": dataclasses.asdict(self.recipe) | {"images": images},
        }
        self._write_hashes(folder, train)
        write_text(folder / CARD, json.dumps(card, indent=2) + "\n")

    def _write_card(
        self, facts: dict[str, Any], data: Dataset, hours: float, curve: str
    ) -> dict[str, Any]:
        """Write README, hashes and card; the card, written last, marks the training as finished."""
        several = f", {self.processes.size} of them" if self.processes.size > 1 else ""
        card = {
            "name": self.folder.name,
            **facts,
            **({"continued_from": self._before()} if self.init else {}),
            "data": data_facts(data, self.without),
            "seed": self.seed,
            "command": self.command,
            "hours": round(hours, 3),
            "device": describe_device(self.processes.device) + several,
            "versions": versions(),
            "date": clock(),
            "recipe": json.loads(json.dumps(dataclasses.asdict(self.recipe))),
            "curve": read_curve(self.work / f"{curve}-curve.jsonl"),
        }
        text = json.dumps(card, indent=2, allow_nan=False) + "\n"
        write_text(self.folder / "README.md", self.readme(card))
        self._write_hashes(self.folder, data)
        write_text(self.folder / CARD, text)
        return card

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Train, or resume from the last checkpoint, to the end; then write model and card.

        Returns:
            The card; empty in all but the main process.
        """

    @abstractmethod
    def readme(self, card: dict[str, Any]) -> str:
        """README of the model, from its card."""

    @abstractmethod
    def report(self, card: dict[str, Any]) -> list[str]:
        """Summary of the finished model, in lines for a terminal."""


def tensorboard(folder: Path, prefix: str) -> Report:
    """Writer of curves for TensorBoard.

    Raises:
        UsageError: if tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "--report-to tensorboard needs the package tensorboard",
            given=str(error),
            todo='pip install "diffcls[track]"',
        ) from None
    writer = SummaryWriter(folder)

    def report(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(f"{prefix}/{name}", value, step)
        writer.flush()

    return report
