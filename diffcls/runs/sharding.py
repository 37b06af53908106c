"""Shards: the parts of a run that several processes score side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diffcls.support.errors import UsageError

LAUNCHERS = (
    ("RANK", "WORLD_SIZE", None),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", None),
)
"""Environment variables of torchrun and SLURM: index, count, and the first index if not 0."""


def shard_of(count: int, shard: tuple[int, int]) -> Sequence[int]:
    """The positions of shard (i, n) among `count` images: every n-th from i.

    Raises:
        UsageError: unless 0 <= i < n.
    """
    i, n = shard
    if not (n >= 1 and 0 <= i < n):
        raise UsageError("--shard out of range", given=f"{i}/{n}", allowed="i/n with 0 <= i < n")
    return range(i, count, n)


def shard_from(
    environment: Mapping[str, str],
    shard: str | None = None,
    n_workers: int | None = None,
    worker_idx: int | None = None,
) -> tuple[int, int]:
    """(i, n) from ``--shard``, ``--n-workers --worker-idx``, or a launcher's variables.

    Args:
        environment: environment variables, for those of `LAUNCHERS`.
        shard: ``i/n``.
        n_workers, worker_idx: n and i, as the published script spells them.

    Raises:
        UsageError: for a shard that cannot be read, or outside 0 <= i < n.
    """
    if shard is not None:
        try:
            i, n = map(int, shard.split("/"))
        except ValueError:
            raise UsageError(
                "--shard cannot be read", given=shard, allowed="i/n, i from 0, such as 0/4"
            ) from None
    elif n_workers is not None or worker_idx is not None:
        if n_workers is None or worker_idx is None:
            raise UsageError(
                "--n-workers and --worker-idx must be given together", allowed="both, or neither"
            )
        i, n = worker_idx, n_workers
    else:
        i, n = _from_launcher(environment)
    shard_of(0, (i, n))  # checks the range
    return i, n


def _from_launcher(environment: Mapping[str, str]) -> tuple[int, int]:
    for index, count, first in LAUNCHERS:
        if index in environment and count in environment:
            offset = int(environment.get(first, 0)) if first else 0
            return int(environment[index]) - offset, int(environment[count])
    return 0, 1
