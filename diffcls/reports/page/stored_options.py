"""Options of a stored run, to read its images and to score some of them once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.evaluation.options import EvaluationOptions, read_options
from diffcls.evaluation.plan import choose_images
from diffcls.runs.stored import StoredRun
from diffcls.support.errors import DiffclsError
from diffcls.support.hub import offline

CommandReader = Callable[[str], Mapping[str, Any] | None]
"""Command line of an evaluation -> its options; None for a text that is none."""
OF_ONE_RUN = ("method", "dataset", "model", "seed")
"""Options of which a command may have named several values, each a run of its own."""
UNUSED = ("save_errors", "shard", "n_workers", "worker_idx", "budget", "batch_size", "threads")
"""Options that decide how a run was executed; images and scores do not depend on them."""


def options_of(
    run: StoredRun, read_command: CommandReader, data_root: str | None = None
) -> EvaluationOptions | None:
    """The options that a run was started with; None where neither header nor command says.

    Args:
        run: the run.
        read_command: reads the command of runs whose header does not keep the options.
        data_root: folder of the images, instead of the run's own.
    """
    stored = run.header.get("options")
    given = dict(stored) if stored is not None else read_command(str(run.header["command"]))
    if given is None:
        return None
    values = {name: value for name, value in given.items() if name not in UNUSED}
    values.update(method=[str(run.spec["method"])], seed=int(run.spec.get("seed", 0)))
    for name in ("dataset", "model"):
        if isinstance(values.get(name), list):
            values[name] = str(run.spec[name])
    if data_root is not None and not catalog.find(str(values.get("dataset", "digits"))).own:
        values["data_root"] = data_root
    try:
        # a command of several methods has options that this one does not read
        unused = EvaluationOptions(**values).unused()
        read = {name: value for name, value in values.items() if name not in unused}
        return replace(read_options(read), quiet=True, check_model=False)
    except (DiffclsError, TypeError):
        return None


def error_folder(run: StoredRun, read_command: CommandReader) -> str | None:
    """The folder that the run's ``--save-errors`` named; None without that flag."""
    stored = run.header.get("options")
    given = stored if stored is not None else read_command(str(run.header["command"]))
    folder = (given or {}).get("save_errors")
    return None if folder is None else str(folder)


class Images:
    """The data sets of runs, opened once each; nothing is downloaded.

    Args:
        read_command: see `options_of`.
        data_root: see `options_of`.
    """

    def __init__(self, read_command: CommandReader, data_root: str | None = None) -> None:
        self.read_command, self.data_root = read_command, data_root
        self._opened: dict[object, Dataset | str] = {}

    def of(self, run: StoredRun) -> tuple[Dataset, EvaluationOptions] | str:
        """A run's images with its options, or what is missing, as the end of a sentence."""
        options = options_of(run, self.read_command, self.data_root)
        if options is None:
            return "the run does not say which options it was started with"
        key = repr((options.dataset, options.split, options.data_root, options.limit))
        key += repr((options.subset, options.indices, options.classnames, options.reject))
        if key not in self._opened:
            try:
                with offline():
                    self._opened[key] = choose_images(options)[0]
            except (DiffclsError, OSError) as error:
                self._opened[key] = str(error)
        found = self._opened[key]
        if isinstance(found, str):
            return found
        if found.revision != run.spec.get("data_revision"):
            return "the images found are another version of the data set"
        return found, options
