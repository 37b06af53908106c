"""Trackers of experiments: accelerate's classes for TensorBoard, Weights & Biases and MLflow.

accelerate's trackers belong to an ``Accelerator``: on their own they set up its global state, or
fail without it. Here they run on the main process only, and the state is neither read nor made.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffcls.support.errors import UsageError, unknown_name

Logger = Callable[[dict[str, float], int], None]
"""(values by name, step)."""
PROJECT = "diffcls"
"""Project of Weights & Biases, experiment of MLflow."""
PACKAGES = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
}
"""Name of a tracker -> the package that it needs."""
RUNS = {"tensorboard": "writer", "wandb": "run", "mlflow": "active_run"}
"""Name of a tracker -> its attribute of the run in progress."""


class TrackerLog:
    """A tracker of accelerate as a logger, without an ``Accelerator``.

    It is started at the first value, and closed if it was started here. A run of Weights & Biases
    or MLflow that is active already is used, and stays open.

    Args:
        tracker: an ``accelerate.tracking.GeneralTracker``.
    """

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker
        self._is_ours, self._is_ready = False, False
        self._run = ""

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Log values at a step."""
        with without_state(self.tracker):
            if not self._is_ready:
                self._start()
            if self.tracker.name == "wandb":
                # its own step must not fall: the training may log more often than it counts
                self._log_to_wandb(values, step)
            else:
                self.tracker.log(dict(values), step=step)

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log what defines the run: a text in TensorBoard, parameters or configuration elsewhere.

        Args:
            settings: plain JSON types; nested ones are logged as JSON text.
        """
        with without_state(self.tracker):
            if not self._is_ready:
                self._start()
            if self.tracker.name == "tensorboard":
                text = json.dumps(settings, indent=2)
                self.tracker.tracker.add_text("specification", f"```json\n{text}\n```")
                return
            scalars = {
                name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
                for name, value in settings.items()
            }
            self.tracker.store_init_configuration(scalars)

    def close(self) -> None:
        """Finish the tracker, if it was started here; a later value starts it again."""
        if self._is_ours:
            with without_state(self.tracker):
                self.tracker.finish()
        if self._run:
            vars(self.tracker).pop(self._run, None)
        self._is_ours, self._is_ready, self._run = False, False, ""

    def _start(self) -> None:
        self._is_ready = True
        if _is_started(self.tracker):
            return
        self._run = RUNS.get(self.tracker.name, "")
        active = _active_run(self.tracker.name)
        if active is not None:
            setattr(self.tracker, self._run, active)
        else:
            self.tracker.start()
            self._is_ours = True

    def _log_to_wandb(self, values: Mapping[str, float], step: int) -> None:
        for prefix in {name.partition("/")[0] for name in values}:
            axis = f"{prefix}/step"
            self.tracker.tracker.define_metric(f"{prefix}/*", step_metric=axis)
            values = {**values, axis: step}
        self.tracker.log(dict(values))


def logger_of(given: Any, project: str, folder: str | Path) -> Logger:
    """The logger that a name, a tracker or a function stands for.

    Args:
        given: ``tensorboard``, ``wandb`` or ``mlflow``; a ``GeneralTracker``; or a function of
            (values by name, step), such as ``accelerator.log``.
        project: name of the project or experiment.
        folder: folder of TensorBoard's files.

    Raises:
        UsageError: for an unknown name, a package that is not installed, or another object.
    """
    if isinstance(given, str):
        check_installed(given)
        return TrackerLog(_made(given, project, Path(folder)))
    if all(callable(getattr(given, name, None)) for name in ("log", "finish")) and hasattr(
        type(given), "requires_logging_directory"
    ):
        return TrackerLog(given)
    if callable(given):
        log: Logger = given
        return log
    raise UsageError(
        "logger cannot be used",
        given=type(given).__name__,
        allowed=f"{', '.join(PACKAGES)}, a GeneralTracker, or a function of (values, step)",
    )


def tracker_of_run(name: str, run: str, folder: Path, key: str) -> TrackerLog:
    """A tracker of one run, whose files all lie below a folder.

    Weights & Biases works offline and MLflow writes to a folder of its own, unless the user's
    variables ``WANDB_MODE`` and ``MLFLOW_TRACKING_URI`` name something else.

    Args:
        name: a key of `PACKAGES`.
        run: name of the run, as people read it.
        folder: receives the files; it is created.
        key: what identifies the run, where a tracker can continue one.

    Raises:
        UsageError: see `check_installed`.
    """
    check_installed(name)
    folder.mkdir(parents=True, exist_ok=True)
    if name == "tensorboard":
        return TrackerLog(_made(name, run, folder))
    if name == "mlflow":
        if "MLFLOW_TRACKING_URI" not in os.environ and _active_run(name) is None:
            _set_mlflow_store(folder.resolve())
        place = folder.resolve().as_uri()
        return TrackerLog(_made(name, PROJECT, folder, run_name=run, logging_dir=place))
    for variable in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        os.environ.setdefault(variable, str(folder.resolve()))
    import wandb

    settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False)
    mode = os.environ.get("WANDB_MODE", "offline")
    options = {"name": run, "id": key, "dir": str(folder), "mode": mode, "resume": "allow"}
    return TrackerLog(_made(name, PROJECT, folder, settings=settings, **options))


def _set_mlflow_store(folder: Path) -> None:
    """MLflow's database below a folder; its files where mlflow-skinny has no database."""
    from importlib.util import find_spec

    import mlflow

    if all(map(find_spec, ("sqlalchemy", "alembic"))):
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        return
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(folder.as_uri())


def check_installed(name: str) -> None:
    """Refuse a tracker by name that is unknown, or whose package is not installed.

    Raises:
        UsageError: for either.
    """
    from importlib.util import find_spec

    if name not in PACKAGES:
        raise unknown_name("logger", name, PACKAGES)
    if find_spec(PACKAGES[name]) is None:
        raise UsageError(
            f"the logger {name!r} needs the package {PACKAGES[name]}",
            given="it is not installed",
            todo=f"pip install {PACKAGES[name]}",
        )


def close_all(loggers: Sequence[Logger]) -> None:
    """Finish the trackers that were started here."""
    for logger in loggers:
        if isinstance(logger, TrackerLog):
            logger.close()


def _made(name: str, project: str, folder: Path, /, **options: Any) -> Any:
    check_installed(name)
    from accelerate import tracking

    kinds = {
        "tensorboard": tracking.TensorBoardTracker,
        "wandb": tracking.WandBTracker,
        "mlflow": tracking.MLflowTracker,
    }
    # a subclass: some versions of accelerate start a tracker when it is made
    kind = type(kinds[name].__name__, (kinds[name],), {"main_process_only": False})
    with _plain_messages(kinds[name]):
        places = (str(folder),) if name == "tensorboard" else ()
        return kind(project, *places, **options)


def _is_started(tracker: Any) -> bool:
    try:
        return tracker.tracker is not None
    except AttributeError:
        return False


def _active_run(name: str) -> Any:
    """The run that the training's own script has started, if any."""
    module = sys.modules.get(PACKAGES.get(name, ""))
    if module is None:
        return None
    if name == "wandb":
        return module.run
    return module.active_run() if name == "mlflow" else None


@contextmanager
def without_state(tracker: Any) -> Iterator[None]:
    """Context in which a tracker neither asks for accelerate's global state nor makes it."""
    own = vars(tracker)
    before = own.get("main_process_only")
    own["main_process_only"] = False
    try:
        with _plain_messages(type(tracker)):
            yield
    finally:
        if before is None:
            del own["main_process_only"]
        else:
            own["main_process_only"] = before


@contextmanager
def _plain_messages(kind: type) -> Iterator[None]:
    """Context in which the module of a tracker logs as any other: accelerate's needs its state."""
    from accelerate.logging import MultiProcessAdapter

    modules = {sys.modules[base.__module__] for base in kind.__mro__ if base is not object}
    replaced = [
        (module, module.logger)
        for module in modules
        if isinstance(getattr(module, "logger", None), MultiProcessAdapter)
    ]
    for module, _ in replaced:
        module.logger = logging.getLogger(module.__name__)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module, adapter in replaced:
            module.logger = adapter  # type: ignore[attr-defined]
