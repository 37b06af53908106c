"""Options of an evaluation: one field per flag of ``python -m diffcls.evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from diffcls.classifiers.options import ClassifierOptions
from diffcls.diffusion.learned_weighting import read_weighting
from diffcls.diffusion.parameterization import resolve_weighting
from diffcls.diffusion.timestep_allocation import read_allocation
from diffcls.integrations.trackers import check_installed
from diffcls.models.executor_options import check_executor
from diffcls.support.environment import MAX_THREADS
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.options import MAX_COUNT, MAX_WORKERS, flag_of, free_text, read, within
from diffcls.support.paths import UserPath
from diffcls.support.text import valid_text
from diffcls.support.workers.requests import MAX_RAY_WORKERS, unused_workers

JSON_FORMATS = ("leaderboard", "clip_benchmark", "model-index")
MAX_READ_SECONDS = 86_400
UNSAVED = frozenset(
    {"command", "json", "json_format", "log_to", "quiet", "published", "dry_run"}
    | {"executor", "workers", "address"}
)
"""Options that are not kept with a run: how it was called, and what was printed."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(ClassifierOptions):
    """The flags of ``python -m diffcls.evaluate``, and the arguments of `run_evaluation`.

    Args:
        check_model: self-test at load: whether the model predicts what its config declares.
        limit: size of a stratified sample of the images.
        subset: a named subset, ``N-per-class``.
        indices: file of positions within the split, one per line or a ``.npy`` array.
        threads: CPU threads; None: torch's choice.
        shard: "i/n", i from 0.
        n_workers, worker_idx: the same in the published script's spelling.
        executor: ``serial``: in this process; ``ray``: in workers on a Ray cluster.
        workers: number of Ray's workers; None: one per GPU, or two without GPUs.
        address: HOST:PORT of a Ray cluster, or ``auto``; None: one that the run starts and stops.
        read_timeout: seconds after which an image counts as one that cannot be read; 0: no limit.
        budget: time that the run may take, as ``90m`` or ``2h``: images and draws are fitted to it.
        extra, load_stats: flags of the published script that change no number here: a run is
            identified by its fingerprint, and no image is scored twice.
        dry_run: print the resolved specification and its estimated cost, and stop.
        json, quiet: machine output; no progress.
        json_format: of what the command prints: ``leaderboard``, ``clip_benchmark`` or
            ``model-index``; the returned rows are the leaderboard's.
        log_to: trackers that get the figures during the run, below the output folder:
            ``tensorboard``, ``wandb``, ``mlflow``.
        published: print the published figures after the run's own rows.
        command: the command, as the leaderboard shows it.
    """

    check_model: bool = True
    limit: int | None = within(1, MAX_COUNT)
    subset: str | None = None
    indices: UserPath | None = None
    threads: int | None = within(1, MAX_THREADS)
    shard: str | None = None
    n_workers: int | None = within(1, MAX_WORKERS)
    worker_idx: int | None = within(0, MAX_WORKERS - 1)
    executor: str = "serial"
    workers: int | None = within(1, MAX_RAY_WORKERS)
    address: str | None = None
    read_timeout: float = within(0, MAX_READ_SECONDS, 60.0, whole=False)
    budget: str | None = None
    extra: str | None = free_text()
    load_stats: bool = False
    dry_run: bool = False
    json: bool = False
    json_format: str = "leaderboard"
    log_to: tuple[str, ...] = ()
    quiet: bool = False
    published: bool = False
    command: str = free_text("diffcls.run_evaluation(...)")

    def unused(self) -> dict[str, str]:
        """Each option that has no effect with these methods, search and data set -> why."""
        from diffcls.evaluation.option_use import unused

        return {**unused(self), **unused_workers(self.executor)}

    def resolved(self) -> dict[str, Any]:
        """The options that differ from their defaults, in plain JSON types, for the run's header.

        They are those of flags, of a configuration file and of Python alike; as such a file, they
        describe the run once more. An object, such as a pipeline, is named by its class.
        """
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in UNSAVED
        }
        if self.subset is None and self.indices is None:
            del values["budget"]  # draws and images are those that were fitted to it
        return {
            name: _plain(value)
            for name, value in values.items()
            if value != self.__dataclass_fields__[name].default
        }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return valid_text(value)
    return value if isinstance(value, bool | int | float) else type(value).__name__


def read_options(arguments: Mapping[str, Any]) -> EvaluationOptions:
    """Options from keyword arguments; files of a weighting or an allocation are read.

    Raises:
        UsageError: for an unknown argument, a value that is not allowed, an option that was given
            without effect, or a file that cannot be read.
    """
    for name in arguments:
        if name not in EvaluationOptions.__dataclass_fields__:
            known = EvaluationOptions.__dataclass_fields__
            raise unknown_name("argument of run_evaluation", name, known)
    options = read(EvaluationOptions, arguments)
    _check_output(options)
    _check_executor(options)
    if options.allocation:
        options = replace(options, allocation=read_allocation(str(options.allocation)))
    if str(options.weighting).endswith(".json"):
        options = replace(options, weighting=read_weighting(options.weighting))
    else:
        options = replace(options, weighting=resolve_weighting(str(options.weighting)))
    return options


def _check_executor(options: EvaluationOptions) -> None:
    """Refuse an unknown executor, and what workers on Ray cannot do or be sent."""
    given = (options.workers, options.address, options.device, options.model)
    check_executor(options.executor, *given)
    if options.executor == "serial":
        return
    for name, why in (
        ("multi_label", "its labels are decided in one process"),
        ("budget", "the speed of the workers is not known"),
        ("device_map", "each worker has one GPU"),
    ):
        if getattr(options, name):
            raise UsageError(
                f"{flag_of(name)} cannot be combined with --executor {options.executor}: {why}",
                given=getattr(options, name),
                todo="remove one",
            )


def _check_output(options: EvaluationOptions) -> None:
    """Refuse an unknown format or tracker, a tracker that is not installed, and a format unread."""
    if options.json_format not in JSON_FORMATS:
        raise unknown_name("--json-format", options.json_format, JSON_FORMATS)
    if options.json_format != JSON_FORMATS[0]:
        if not options.json:
            raise UsageError("--json-format has no effect without --json", todo="add --json")
        for name in ("dry_run", "multi_label", "published"):
            if getattr(options, name):
                raise UsageError(
                    f"--json-format {options.json_format} holds rows that were measured",
                    given=flag_of(name),
                    todo=f"remove {flag_of(name)}",
                )
    if options.log_to and options.multi_label:
        raise UsageError("--log-to has no effect with --multi-label", todo="remove --log-to")
    for position, name in enumerate(options.log_to):
        check_installed(name)
        if name in options.log_to[:position]:
            raise UsageError("--log-to names a tracker twice", given=name)
