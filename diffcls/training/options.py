"""Options of the train command, and the recipe and training that they resolve to."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.data import catalog
from diffcls.data.option_use import unused_by
from diffcls.support.environment import MAX_THREADS
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.files import safe_name
from diffcls.support.options import (
    MAX_COUNT,
    MAX_ROWS,
    MAX_SEED,
    check_values,
    free_text,
    within,
)
from diffcls.support.paths import UserPath, expand_fields
from diffcls.support.redaction import redacted
from diffcls.support.text import valid_text
from diffcls.training.dataset_names import full_name, short_name
from diffcls.training.kinds import KINDS, TRAININGS
from diffcls.training.recipe_options import apply_options, recipe_of
from diffcls.training.recipes import Optimisation, for_device

if TYPE_CHECKING:
    from diffcls.training.distributed import ProcessGroup
    from diffcls.training.run import TrainingRun
    from diffcls.training.validation import Validators

MAX_IMAGES = 1000 * MAX_COUNT


@dataclass(frozen=True)
class TrainingOptions:
    """Options of the train command; those that are None take the recipe's value.

    Args:
        dataset: name of the data set, see `diffcls.data.catalog`.
        model: kind of model, a key of `KINDS`.
        data_root: folder of local data.
        without: names of classes whose images are left out; None: all classes are trained.
        output_dir: parent of the model's folder.
        seed: seed of the initial weights and of all random choices.
        recipe: name of the recipe among those of the data set, such as "long"; None: its own.
        images: training images seen, over all phases.
        batch_size: images per batch.
        learning_rate: peak learning rate.
        objective: prediction target, a key of `OBJECTIVES`.
        loss_weighting: see `diffcls.training.losses.WEIGHTS`.
        noise_schedule, levels, learned_variance, conditional: see
            `diffcls.training.recipes.PixelRecipe`.
        lead: pixel-space model that a classifier of noisy images guides, or text-to-image model
            that a ControlNet steers.
        accumulate: gradient accumulation: batches per process and step.
        device: None or ``auto``: an accelerator if there is one.
        report_to: "none" or "tensorboard".
        points: number of points of the curve.
        threads: CPU threads; None: torch's choice.
        init: name or folder of a trained model to fine-tune.
        json, quiet: output of the command.
    """

    dataset: UserPath = "digits"
    model: str = "diffusion"
    data_root: UserPath | None = None
    without: tuple[str, ...] | None = free_text()
    output_dir: UserPath = "models"
    seed: int = within(0, MAX_SEED, 0)
    recipe: str | None = None
    images: int | None = within(1, MAX_IMAGES)
    batch_size: int | None = within(1, MAX_ROWS)
    learning_rate: float | None = within(0, 100, whole=False, is_open=True)
    objective: str | None = None
    loss_weighting: str | None = None
    noise_schedule: str | None = None
    levels: str | None = None
    learned_variance: bool | None = None
    conditional: bool | None = None
    lead: UserPath | None = None
    accumulate: int = within(1, MAX_ROWS, 1)
    device: str | None = None
    report_to: str = "none"
    points: int = within(1, MAX_ROWS, 8)
    threads: int | None = within(1, MAX_THREADS)
    init: UserPath | None = None
    json: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.without, str | list | tuple):
            names = (self.without,) if isinstance(self.without, str) else tuple(self.without)
            object.__setattr__(self, "without", names or None)
        expand_fields(self)
        check_values(self)

    def unused(self) -> dict[str, str]:
        """Each option that has no effect, given the others -> why."""
        kind, spec = KINDS.get(self.model), catalog.find(self.dataset)
        ignored = kind.ignores if kind else ()
        why = f"does not apply to --model {self.model}"
        return {**dict.fromkeys(ignored, why), **unused_by(spec)}

    def command(self) -> str:
        """The command that trains the same model elsewhere; options without effect are omitted."""
        words = ["python", "-m", "diffcls.train"]
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if option.name in LOCAL or (value == option.default and option.name != "dataset"):
                continue
            flag = option.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            elif isinstance(value, tuple):
                words += [f"--{flag}", *value]
            else:
                words += [f"--{flag}", str(value)]
        return redacted(valid_text(shlex.join(words)))


LOCAL = ("data_root", "output_dir", "device", "report_to", "threads", "json", "quiet", "points")
"""Options that change at most the last bits of the weights."""

LED = "pixel-space model to guide"
TRACKERS = ("none", "tensorboard")


def resolve(options: TrainingOptions) -> tuple[TrainingOptions, Optimisation]:
    """The options with the data set's full name, and the recipe with the options applied.

    Nothing heavy is imported.

    Raises:
        UsageError: for unknown names, values out of range, and options that do not apply.
    """
    from diffcls.models.devices import check_device

    if options.model not in KINDS:
        raise unknown_name("kind of model to train", options.model, KINDS)
    options = dataclasses.replace(options, dataset=full_name(options.dataset, options.model))
    recipe = apply_options(recipe_of(options.model, options.dataset, options.recipe), vars(options))
    if options.report_to not in TRACKERS:
        raise unknown_name("tracker", options.report_to, TRACKERS)
    if options.init is not None:
        importlib.import_module(KINDS[options.model].checks_init).check_name(options.init)
    check_device(options.device)
    if getattr(recipe, "model", None) == "":
        led = "text-to-image model to steer" if options.model == "control" else LED
        raise UsageError(
            f"--model {options.model} needs a {led}",
            given=options.dataset,
            todo="name one with --lead MODEL",
        )
    return options, recipe


def open_training(
    options: TrainingOptions,
    validators: Callable[[str, str | None, int], Validators] | None = None,
    processes: ProcessGroup | None = None,
) -> TrainingRun:
    """A training that is ready to run, new or resumed.

    Args:
        options: see `TrainingOptions`.
        validators: (benchmark, data_root, seed) -> validation callbacks, for instance
            `diffcls.classifiers.validation.validators`; needed for the kind "diffusion".
        processes: data-parallel processes; None: this process alone, on the CPU unless the options
            name a device.

    Raises:
        UsageError: see `resolve` and `diffcls.training.run.TrainingRun`.
        ModelError: for a model to fine-tune or to guide that cannot be loaded.
    """
    from diffcls.models.devices import resolve_device
    from diffcls.training.distributed import ProcessGroup

    options, recipe = resolve(options)
    processes = processes or ProcessGroup(device=resolve_device(options.device or "cpu"))
    recipe = for_device(recipe, processes.device)
    if options.model == "clip" and (processes.size > 1 or options.accumulate > 1):
        raise UsageError(
            "--model clip needs one process and no --accumulate",
            given=f"{processes.size} processes, --accumulate {options.accumulate}",
            todo="raise --batch-size: the contrastive loss compares all images of a batch",
        )
    measured_on = getattr(recipe, "measured_on", "") or options.dataset
    if options.without and measured_on != options.dataset:
        raise UsageError(
            "--without needs a data set that a model is validated on",
            given=f"{options.dataset}, validated on {measured_on}",
            allowed="a data set such as fashion_mnist, or your own",
        )
    training: TrainingRun = TRAININGS.load(options.model)(
        dataset=options.dataset,
        recipe=recipe,
        seed=options.seed,
        folder=folder_of(options, recipe),
        data_root=options.data_root,
        without=options.without or (),
        quiet=options.quiet,
        init=options.init,
        report_to=options.report_to,
        accumulate=options.accumulate,
        processes=processes,
        points=options.points,
        validators=validators and validators(measured_on, options.data_root, options.seed),
        command=options.command(),
    )
    return training


def folder_of(options: TrainingOptions, recipe: Optimisation) -> Path:
    """Folder of the trained model."""
    name = KINDS[options.model].folder.format(short_name(options.dataset))
    # another model of the same data set
    suffix = "" if getattr(recipe, "conditional", True) else "-unconditional"
    if options.without:
        suffix += f"-without-{safe_name('-'.join(options.without).casefold())}"
    return Path(options.output_dir) / f"{name}{suffix}"
