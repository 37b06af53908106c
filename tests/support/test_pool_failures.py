"""Pool after failures, with actors that answer at once instead of Ray's."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from diffcls.support.errors import ModelError
from diffcls.support.workers.cluster import Cluster
from diffcls.support.workers.host import batch_size_of
from diffcls.support.workers.members import WorkersDied
from diffcls.support.workers.pool import Pool
from diffcls.support.workers.requests import WorkerRequest


class RayError(Exception):
    """A worker died."""


class RayTaskError(RayError):
    """A call raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(eq=False)
class Answer:
    """What a call has come to."""

    value: Any
    error: Exception | None


class Call:
    """A method of an actor; its answer is there at once."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def remote(self, *arguments: Any) -> Any:
        try:
            value = self.function(*arguments)
        except RayError as error:
            return Answer(value=None, error=error)
        except Exception as error:
            return Answer(value=None, error=RayTaskError(error))
        return Answer(value=value, error=None)


class Actor:
    """A host without threads."""

    served: Any = None

    def __getattr__(self, name: str) -> Call:
        return Call(getattr(type(self), f"on_{name}").__get__(self))

    def on_place(self) -> tuple[int, str]:
        return 1, "here"

    def on_load(self, make: Any, shared: Any) -> list[str]:
        self.__dict__["served"] = None
        self.__dict__["served"] = make()
        return []

    def on_call(self, name: str, *arguments: Any) -> tuple[Any, list[str], int | None]:
        return getattr(self.served, name)(*arguments), [], batch_size_of(self.served)


@dataclass(frozen=True)
class Model:
    """A served object that cannot be made, kills its worker, or works."""

    kind: str
    batch_size: int = 8

    def __call__(self) -> Model:
        if self.kind == "bad":
            raise ModelError("cannot be loaded")
        if self.kind == "kills":
            raise RayError("out of memory")
        return self

    def facts(self) -> str:
        return self.kind


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    def get(call: Any) -> Any:
        if call.error:
            raise call.error
        return call.value

    errors = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    ray: Any = SimpleNamespace(
        remote=lambda _: SimpleNamespace(
            options=lambda **_: SimpleNamespace(remote=lambda _: Actor())
        ),
        wait=lambda calls, num_returns, timeout: (calls[:num_returns], calls[num_returns:]),
        get=get,
        kill=lambda actor: None,
        is_initialized=lambda: True,
        exceptions=errors,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", errors)  # type: ignore[arg-type]
    return Pool(Cluster(True, 2, 0), 2)


def test_a_model_that_cannot_be_loaded_raises_its_own_error_each_time(pool: Pool) -> None:
    for _ in range(3):
        with pytest.raises(ModelError, match="cannot be loaded"):
            pool.call(Model("bad"), "facts")
    assert pool.call(Model("good"), "facts") == "good"


def test_a_model_that_kills_its_workers_leaves_the_next_one_new_workers(pool: Pool) -> None:
    for _ in range(2):
        with pytest.raises(WorkersDied, match="7 workers died"):
            pool.call(Model("kills"), "facts")
        assert pool.call(Model("good"), "facts") == "good"


def test_the_smallest_batch_of_a_model_is_kept(pool: Pool) -> None:
    pool.call(Model("good", 4), "facts")
    assert pool.smallest_batch(Model("good", 4)) == 4
    assert pool.smallest_batch(Model("good", 8)) is None


@pytest.mark.parametrize(
    ("device", "is_local", "is_said"),
    [("auto", False, True), ("cpu", False, False), ("auto", True, False)],
)
def test_a_cluster_whose_gpus_have_not_joined_is_said(
    pool: Pool, capsys: pytest.CaptureFixture[str], device: str, is_local: bool, is_said: bool
) -> None:
    WorkerRequest(1, None if is_local else "auto", device).pool(Cluster(is_local, 4, 0), 1)
    assert ("no GPU yet" in capsys.readouterr().err) == is_said


def test_what_a_worker_logs_is_a_line_for_the_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from diffcls.support.workers.host import Host

    logger = logging.getLogger("diffcls")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    host = Host(".")
    logging.getLogger("diffcls.scoring.batch_size").warning("out of memory")
    assert host._notices.taken() == ["diffcls: out of memory"]
