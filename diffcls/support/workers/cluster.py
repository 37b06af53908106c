"""Ray clusters: a local one that is started and stopped, or one that runs already."""

from __future__ import annotations

import importlib
import logging
import math
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.support.errors import UsageError
from diffcls.support.options import shortened

INSTALL = 'pip install "diffcls[ray]"'
OBJECT_STORE_BYTES = 128 * 2**20
"""Shared memory of a local cluster: keys and results are small."""
CONNECT_SECONDS = 10.0
END_SECONDS = 5.0
FOLDER = "diffcls-ray"
CPU_SHARE = 0.9
"""Share of the CPUs that workers reserve: actors that reserve all of them leave Ray none."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Args:
        is_local: whether it was started by this process, on this machine.
        cpus, gpus: what it has now; nodes may join later.
    """

    is_local: bool
    cpus: float
    gpus: float

    def resources(self, workers: int, needs_gpu: bool) -> dict[str, float]:
        """What one of several workers reserves, as options of a Ray actor."""
        if needs_gpu:
            share = min(1.0, self.gpus / workers) if self.is_local else 1.0
            return {"num_gpus": _floor(share), "num_cpus": 0.0}
        share = self.cpus / workers if self.is_local else 1.0
        return {"num_gpus": 0.0, "num_cpus": _floor(CPU_SHARE * min(1.0, share))}


def _floor(share: float) -> float:
    """A share as Ray reads it: four decimals, above 0."""
    return share if share >= 1 else max(0.0001, math.floor(share * 10_000) / 10_000)


def check_address(address: str | None) -> None:
    """Refuse an address that is none of a cluster.

    Raises:
        UsageError: for anything but ``auto`` and HOST:PORT.
    """
    if address not in (None, "auto") and not re.fullmatch(
        r"(\[[0-9a-fA-F:]+\]|[\w.-]+):[0-9]{1,5}", str(address)
    ):
        raise UsageError(
            "--address cannot be read",
            given=address,
            allowed="HOST:PORT of a Ray cluster, or auto",
            todo="see the output of `ray start --head`",
        )


def check_installed() -> None:
    """Refuse to go on without Ray, before anything heavy is loaded.

    Raises:
        UsageError: if Ray is not installed.
    """
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise UsageError("--executor ray needs Ray", todo=INSTALL)


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """The cluster at an address, or one on this machine that ends with the block.

    A local cluster has no dashboard, answers only to a token that ends with it, and leaves no file.
    A connection of Ray's that the process has already is used, and stays.

    Args:
        address: HOST:PORT, or ``auto`` for the cluster of this machine; None: a new one.

    Raises:
        UsageError: if Ray is not installed, or no cluster answers.
    """
    check_installed()
    with ExitStack() as stack:
        is_local = address is None
        variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        folder = stack.enter_context(_short_folder()) if is_local else None
        if folder is not None and not any(name.startswith("RAY_AUTH_") for name in os.environ):
            variables |= _own_token(folder)
            stack.callback(_read_token_settings)
        stack.enter_context(_environment(variables))
        import ray

        _read_token_settings()  # Ray may have been imported earlier

        before = signal.getsignal(signal.SIGTERM)
        if ray.is_initialized():
            if address not in (None, "auto"):
                raise UsageError(
                    "--address: this process is connected to a Ray cluster already",
                    given=address,
                    todo="call ray.shutdown() first, or remove it",
                )
            is_local = False
        else:
            stack.enter_context(_connection(address, folder))
        stack.enter_context(_terminable(before))
        stack.enter_context(_quiet_deaths())
        has = ray.cluster_resources()
        yield Cluster(is_local, has.get("CPU", 0.0), has.get("GPU", 0.0))


@contextmanager
def _connection(address: str | None, folder: Path | None) -> Iterator[None]:
    import ray

    if address not in (None, "auto"):
        _check_reachable(str(address))
    options: dict[str, Any] = {"address": address or "local"}
    if folder is not None:
        options |= {
            "num_cpus": max(1, os.cpu_count() or 1),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": str(folder),
        }
    try:
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:  # Ray raises of all kinds, some of no kind of their own
        ray.shutdown()
        reason = shortened(" ".join(str(error).split()))
        if address is None:
            raise UsageError(
                f"--executor ray: a local cluster did not start ({reason})",
                todo="see `ray start --head`, or remove --executor",
            ) from error
        raise _no_answer(str(address), reason) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, str(error)) from error


def _no_answer(address: str, reason: str) -> UsageError:
    return UsageError(
        f"--address: no Ray cluster answers ({reason})",
        given=address,
        todo="start one with `ray start --head`, or remove --address to use this machine",
    )


@contextmanager
def _short_folder() -> Iterator[Path]:
    """A temporary folder for Ray's sessions; the paths of its sockets must be short."""
    import psutil

    short = "/tmp"  # noqa: S108  the parent of a folder that mkdtemp makes for this user alone
    parent = Path(short if os.access(short, os.W_OK) else tempfile.gettempdir())
    for left in parent.glob(f"{FOLDER}-*"):  # of processes that were killed
        owner = left.name.split("-")[2]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        # Ray's last processes still write while they end
        deadline = time.monotonic() + END_SECONDS
        while folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.1)


def _own_token(folder: Path) -> dict[str, str]:
    """Token authentication of a local cluster, by a token in a file that ends with it."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="utf-8")
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def _read_token_settings() -> None:
    """Make Ray read the variables of its authentication, as it does when it is imported."""
    with suppress(ImportError, AttributeError):  # a Ray without authentication
        raylet: Any = importlib.import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _terminable(before: Any) -> Iterator[None]:
    """Let SIGTERM end the block as an exit; Ray's own handler aborts, and cleans nothing up.

    Args:
        before: the handler before Ray was connected.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave if before == signal.SIG_DFL else before)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet_deaths() -> Iterator[None]:
    """Keep what Ray prints of dead workers off stdout; the driver reports them itself."""
    from ray._private import worker

    name = "print_to_stdstream"
    original = getattr(worker, name, None)
    if original is not None:
        setattr(worker, name, lambda *_, **__: None)
    try:
        yield
    finally:
        if original is not None:
            setattr(worker, name, original)
