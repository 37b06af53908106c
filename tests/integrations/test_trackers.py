"""Loggers: accelerate's trackers work without an ``Accelerator``, and leave no state of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: F401  (this file needs it)

from diffcls.integrations.trackers import TrackerLog, close_all, logger_of, without_state
from diffcls.support.errors import UsageError

VALUES = {"zero_shot/accuracy": 0.75, "zero_shot/ci_low": 0.5}


@pytest.fixture(autouse=True)
def _no_state() -> Any:
    from accelerate.state import PartialState

    before = dict(PartialState._shared_state)
    PartialState._shared_state.clear()
    yield
    assert PartialState._shared_state == {}
    PartialState._shared_state.update(before)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_gets_every_value_at_its_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = logger_of("tensorboard", "project", tmp_path)
    assert not any(tmp_path.iterdir())  # nothing is written before there is a value
    log(VALUES, 500)
    log({**VALUES, "zero_shot/accuracy": 0.875}, 1000)
    close_all([log])
    assert scalars(tmp_path / "project") == {
        "zero_shot/accuracy": [(500, 0.75), (1000, 0.875)],
        "zero_shot/ci_low": [(500, 0.5), (1000, 0.5)],
    }


def test_mlflow_gets_the_values_and_a_run_of_the_script_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the one store that needs no server
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    try:
        log = logger_of("mlflow", "project", tmp_path)
        log(VALUES, 500)
        run = mlflow.active_run()
        assert run is not None
        close_all([log])
        assert mlflow.active_run() is None
        assert mlflow.get_run(run.info.run_id).data.metrics == VALUES

        own = mlflow.start_run()
        log(VALUES, 7)
        close_all([log])
        assert mlflow.active_run().info.run_id == own.info.run_id
        history = mlflow.MlflowClient().get_metric_history(own.info.run_id, "zero_shot/accuracy")
        assert [(point.step, point.value) for point in history] == [(7, 0.75)]
        mlflow.end_run()
    finally:
        mlflow.end_run()
        mlflow.set_tracking_uri(before)


class Run:
    """A run of Weights & Biases, as far as its tracker uses it."""

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], Any]] = []
        self.axes: dict[str, str] = {}
        self.finished = False

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self.logged.append((values, step))

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes[name] = step_metric

    def finish(self) -> None:
        self.finished = True


def test_wandb_gets_the_step_as_a_value_so_that_no_point_is_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own step may not fall: where the training logs more often than it counts, it has gone on.

    Source: the guide "Log axes" of Weights & Biases, ``define_metric`` with ``step_metric``.
    """
    wandb = pytest.importorskip("wandb")
    started = Run()
    monkeypatch.setattr(wandb, "init", lambda **_: started)
    monkeypatch.setattr(wandb, "run", None)
    log = logger_of("wandb", "project", tmp_path)
    log(VALUES, 500)
    assert started.logged == [({**VALUES, "zero_shot/step": 500}, None)]
    assert started.axes == {"zero_shot/*": "zero_shot/step"}
    close_all([log])
    assert started.finished

    own = Run()
    monkeypatch.setattr(wandb, "run", own)  # the script's own
    log(VALUES, 600)
    close_all([log])
    assert [values["zero_shot/step"] for values, _ in own.logged] == [600]
    assert not own.finished


@pytest.mark.slow
def test_wandb_itself_takes_the_values_off_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    log = logger_of("wandb", "project", tmp_path)
    log(VALUES, 500)
    assert wandb.run.summary["zero_shot/accuracy"] == 0.75
    close_all([log])
    assert wandb.run is None
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_a_tracker_of_the_users_own_is_used_as_it_is() -> None:
    from accelerate.logging import MultiProcessAdapter
    from accelerate.tracking import GeneralTracker, on_main_process

    class Own(GeneralTracker):
        name, requires_logging_directory = "own", False

        def __init__(self) -> None:
            super().__init__()
            self.logged: list[Any] = []

        @property
        def tracker(self) -> Any:
            return self.logged

        @on_main_process
        def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
            self.logged.append((values, step))

        @on_main_process
        def finish(self) -> None:
            self.logged.append("finished")

    tracker = Own()
    log = logger_of(tracker, "project", ".")
    assert isinstance(log, TrackerLog)
    log(VALUES, 3)
    close_all([log])
    assert tracker.logged == [(VALUES, 3)]  # its owner finishes it
    assert tracker.main_process_only and "main_process_only" not in vars(tracker)

    from accelerate import tracking

    with pytest.raises(RuntimeError), without_state(tracker):
        assert isinstance(tracking.logger, logging.Logger)
        raise RuntimeError
    assert isinstance(tracking.logger, MultiProcessAdapter)


def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package wandb"):
        logger_of("wandb", "project", tmp_path)
