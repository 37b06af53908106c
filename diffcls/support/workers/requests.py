"""Requests for workers: what ``--workers``, ``--address`` and ``--device`` ask of a cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass

from diffcls.support.errors import UsageError
from diffcls.support.notices import warn
from diffcls.support.workers.cluster import Cluster, check_address, check_installed
from diffcls.support.workers.pool import Pool

EXECUTORS = ("serial", "ray")
"""Values of ``--executor``."""
MAX_RAY_WORKERS = 4096
DEFAULT_CPU_WORKERS = 2
"""Number of workers on a cluster without GPUs."""
FORWARDED = ("HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE")
"""Environment variables that workers on other nodes get, too; none of them is a secret."""


@dataclass(frozen=True)
class WorkerRequest:
    """Workers that a command asks for.

    Args:
        workers: their number; None: one per GPU, or `DEFAULT_CPU_WORKERS`.
        address: HOST:PORT or ``auto``; None: a local cluster.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    workers: int | None
    address: str | None
    device: str

    def check(self) -> None:
        """Refuse what cannot be, before anything heavy is loaded.

        Raises:
            UsageError: without Ray, for an address that cannot be read, or a single GPU.
        """
        check_installed()
        check_address(self.address)
        if self.device.startswith("cuda:"):
            raise UsageError(
                "--device names one GPU, but --executor ray gives each worker its own",
                given=self.device,
                allowed="auto, cuda, cpu or mps",
                todo="use --device cuda",
            )

    def pool(self, cluster: Cluster, threads: int) -> Pool:
        """The workers, on a cluster.

        Args:
            cluster: the cluster.
            threads: CPU threads of each worker.
        """
        needs_gpu = self.device == "cuda" or (self.device == "auto" and cluster.gpus > 0)
        if needs_gpu and cluster.is_local and not cluster.gpus:
            raise UsageError("--device cuda: this machine has no GPU", todo="use --device cpu")
        if self.device == "auto" and not cluster.gpus and not cluster.is_local:
            warn(
                "the cluster has no GPU yet, so the workers compute on its CPUs; "
                "--device cuda waits for nodes with GPUs, --device cpu silences this"
            )
        workers = self.workers or (int(cluster.gpus) if needs_gpu else 0) or DEFAULT_CPU_WORKERS
        if cluster.is_local and not needs_gpu and workers * threads > cluster.cpus:
            fewer = max(1, int(cluster.cpus // workers))
            warn(
                f"{workers} workers of {threads} threads share {cluster.cpus:.0f} CPUs; --threads "
                f"{fewer} is faster, and changes the last bits of the scores"
            )
        variables = {name: os.environ[name] for name in FORWARDED if name in os.environ}
        # Ray's own choice is 1, and the libraries' would be that of the driver
        variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))
        return Pool(cluster, workers, needs_gpu, variables)


def unused_workers(executor: str) -> dict[str, str]:
    """Each option of workers that has no effect with an executor -> why."""
    if executor != "serial":
        return {}
    return dict.fromkeys(("workers", "address"), "needs --executor ray")
