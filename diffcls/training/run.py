"""What every training of a small model shares: its folder, its resumption, its curve."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffcls.data.dataset import Dataset
from diffcls.data.training_captions import caption
from diffcls.data.transforms import load_image, to_pixels
from diffcls.models.loading import CARD
from diffcls.support.environment import clock, describe_device, versions
from diffcls.support.errors import UsageError
from diffcls.support.files import write_text
from diffcls.training.distributed import Team
from diffcls.training.loop import Loop, Phase
from diffcls.training.recipes import RECIPES

VOCABULARY_CAPTIONS = 20_000
"""Captions that a tokenizer is learned from."""


@dataclass
class TrainingRun(ABC):
    """One model in the making.

    Args:
        dataset: name of the data set; its training split is learned, with its labels as captions.
        recipe: everything that decides the weights, but for the seed.
        seed: of the weights and of every random choice.
        folder: where the model goes; checkpoints and curves lie in ``FOLDER/training``.
        data_root: where local data lie.
        quiet: no progress bar.
        init: a finished model that training goes on from: its name or folder; None: from nothing.
        report_to: "tensorboard": curves go to ``FOLDER/training/tensorboard``, too.
        accumulate: batches of each process before a step.
        team: the processes that train it together.
        command: what it was asked with, for the card and the README.

    Raises:
        UsageError: when the folder holds a finished model, or one begun with another recipe.
    """

    index: ClassVar[str]
    """The file that says that a model lies in the folder."""

    dataset: str
    recipe: Any
    seed: int
    folder: Path
    data_root: str | None = None
    quiet: bool = False
    init: str | None = None
    report_to: str = "none"
    accumulate: int = 1
    team: Team = field(default_factory=Team)
    command: str = "python -m diffcls.train"

    def __post_init__(self) -> None:
        self.work = self.folder / "training"
        # the card is written last: without it a model of ours is not finished yet
        ours = (self.work / "recipe.json").exists() and not (self.folder / CARD).exists()
        if (self.folder / self.index).exists() and not ours:
            raise UsageError(
                "there is a finished model already",
                given=str(self.folder),
                todo="choose another --output-dir, or move it away",
            )
        plan = {"dataset": self.dataset, "seed": self.seed, **dataclasses.asdict(self.recipe)}
        if self.init:
            plan["init"] = self._open_card()[1]
        if self.team.size * self.accumulate > 1:
            plan["batches_a_step"] = self.team.size * self.accumulate
        plan = json.loads(json.dumps(plan))
        path = self.work / "recipe.json"
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            if self.team.leads and not path.exists():
                path.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"cannot write to the output folder ({error.strerror})",
                given=str(self.folder),
                todo="choose another --output-dir",
            ) from error
        self.team.wait()
        begun = json.loads(path.read_text(encoding="utf-8"))
        if begun != plan:
            changed = sorted(k for k in {*begun, *plan} if begun.get(k) != plan.get(k))
            raise UsageError(
                "a training with another recipe was begun here",
                given={k: plan.get(k) for k in changed},
                allowed=f"{ {k: begun.get(k) for k in changed} }",
                todo="go on with that, or choose another --output-dir",
            )

    def _before(self) -> dict[str, Any]:
        """What the model that training goes on from had seen."""
        card, revision = self._open_card()
        earlier: dict[str, Any] = dict(card.get("continued_from", {}))
        return {
            "name": card["name"],
            "revision": revision,
            "images": card["recipe"]["images"] + earlier.get("images", 0),
            "hours": card["hours"] + earlier.get("hours", 0.0),
        }

    def trained_on(self, train: Dataset) -> list[str]:
        """Names of all data sets on which the model will not be zero-shot."""
        own = RECIPES.get(self.dataset)
        return list(own.teaches if own and own.teaches else (train.name,))

    @abstractmethod
    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        """The card of the model that training goes on from, and its revision."""

    def _captions(self, train: Dataset, labels: Sequence[int]) -> Callable[[int, int], str]:
        """(image index, draw) -> a caption of that image, in words of that draw."""

        def words(index: int, draw: int) -> str:
            label = labels[index]
            name = train.class_names[label]
            return caption(self.dataset, label, self.seed, draw, name, train.sentences)

        return words

    def _loop(self, phase: Phase) -> Loop:
        report = None
        if self.report_to == "tensorboard" and self.team.leads:
            report = tensorboard(self.work / "tensorboard", phase.name)
        return Loop(
            phase,
            self.work,
            quiet=self.quiet,
            report=report,
            team=self.team,
            accumulate=self.accumulate,
        )

    def _write_card(
        self, facts: dict[str, Any], data: Dataset, hours: float, curve: str
    ) -> dict[str, Any]:
        """The model's card, which says that it is finished, and its README."""
        card = {
            "name": self.folder.name,
            **facts,
            **({"continued_from": self._before()} if self.init else {}),
            "data": {"split": "train", "images": len(data), "revision": data.revision},
            "seed": self.seed,
            "command": self.command,
            "hours": round(hours, 3),
            "device": describe_device(self.team.device)
            + (f", {self.team.size} of them" if self.team.size > 1 else ""),
            "versions": versions(),
            "date": clock(),
            "recipe": json.loads(json.dumps(dataclasses.asdict(self.recipe))),
            "curve": read_curve(self.work / f"{curve}-curve.jsonl"),
        }
        text = json.dumps(card, indent=2, allow_nan=False) + "\n"
        (self.folder / "README.md").write_text(self.readme(card), encoding="utf-8")
        write_text(self.folder / CARD, text)
        return card

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Train to the end, or from the last checkpoint to the end; then write model and card.

        Returns:
            the card; of a process that does not lead its team nothing, as it writes nothing.
        """

    @abstractmethod
    def readme(self, card: dict[str, Any]) -> str:
        """The model's README, from its card."""

    @abstractmethod
    def report(self, card: dict[str, Any]) -> list[str]:
        """What the finished model does, in lines for a terminal."""


def tensorboard(folder: Path, prefix: str) -> Callable[[int, Mapping[str, float]], None]:
    """A writer of curves that TensorBoard shows: (step, values) -> None.

    Raises:
        UsageError: where tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "curves need tensorboard", given=str(error), todo='pip install "diffcls[track]"'
        ) from None
    writer = SummaryWriter(folder)

    def report(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(f"{prefix}/{name}", value, step)
        writer.flush()

    return report


def tensor_of(data: Dataset, size: int) -> tuple[Tensor, list[int]]:
    """All images of a data set as one tensor (N, 3, size, size) in [−1, 1], and their labels."""
    pixels = [to_pixels(load_image(item.open()), size) for item in data.items]
    return torch.from_numpy(np.stack(pixels)), [item.label for item in data.items]


def read_curve(path: Path) -> list[dict[str, float]]:
    """The points of a curve; a run that was cut off may have noted a step twice."""
    points: dict[float, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        point = json.loads(line)
        points[point["step"]] = point
    return [points[step] for step in sorted(points)]


def continued(card: dict[str, Any]) -> str:
    """A line of the README on what training went on from; empty where that was nothing."""
    before = card.get("continued_from")
    if not before:
        return ""
    return (
        f"- Went on from `{before['name']}`, revision `{before['revision']}`, which had seen "
        f"{before['images']:,} images in {before['hours']:.2f} hours.\n"
    )


def curve_table(curve: list[dict[str, float]], measured: str) -> str:
    """The points of a curve as a Markdown table, of what was measured at each of them.

    Args:
        curve: see `read_curve`.
        measured: what the accuracy was measured on.
    """
    columns = {
        "images": ("images seen", "{:,.0f}"),
        "loss": ("training loss", "{:.4f}"),
        "validation_accuracy": (f"accuracy, {measured}", "{:.1%}"),
    }
    shown = [name for name in columns if all(name in point for point in curve)]
    lines = [[columns[name][0] for name in shown], ["---"] * len(shown)]
    lines += [[columns[name][1].format(point[name]) for name in shown] for point in curve]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
