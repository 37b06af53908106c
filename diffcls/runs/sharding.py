"""Shards: the parts of a run that several processes score side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from diffcls.support.errors import UsageError
from diffcls.support.launchers import process_of

MAX_SHARDS = 1_000_000


def shard_of(count: int, shard: tuple[int, int]) -> Sequence[int]:
    """The positions of shard (i, n) among `count` images: every n-th from i.

    Raises:
        UsageError: unless 0 <= i < n <= `MAX_SHARDS`.
    """
    i, n = shard
    if not 0 <= i < n <= MAX_SHARDS:
        allowed = f"i/n with 0 <= i < n <= {MAX_SHARDS:,}"
        raise UsageError("--shard out of range", given=f"{i}/{n}", allowed=allowed)
    return range(i, count, n)


def shard_from(
    environment: Mapping[str, str],
    shard: str | None = None,
    n_workers: int | None = None,
    worker_idx: int | None = None,
) -> tuple[int, int]:
    """(i, n) from ``--shard``, ``--n-workers --worker-idx``, or a launcher's variables.

    Args:
        environment: environment variables, read if no flag is given; see
            `diffcls.support.launchers`.
        shard: ``i/n``.
        n_workers, worker_idx: n and i, as the published script spells them.

    Raises:
        UsageError: for a shard that cannot be read, flags that contradict each other, or a shard
            outside 0 <= i < n.
    """
    if shard is not None:
        i, n = _read(shard)
        for flag, value, same in (("n-workers", n_workers, n), ("worker-idx", worker_idx, i)):
            if value not in (None, same):
                raise UsageError(
                    f"--shard and --{flag} contradict each other",
                    given=f"--shard {shard} --{flag} {value}",
                    allowed="one spelling: --shard i/n, or --n-workers n --worker-idx i",
                )
    elif n_workers is not None or worker_idx is not None:
        if n_workers is None or worker_idx is None:
            raise UsageError(
                "--n-workers and --worker-idx must be given together", allowed="both, or neither"
            )
        i, n = worker_idx, n_workers
    else:
        i, n = process_of(environment)
    shard_of(0, (i, n))  # checks the range
    return i, n


def _read(shard: str) -> tuple[int, int]:
    parts = re.fullmatch(r"(-?[0-9]{1,9})/(-?[0-9]{1,9})", shard)
    if parts is None:
        raise UsageError(
            "--shard cannot be read", given=shard, allowed="i/n, i from 0, such as 0/4"
        )
    return int(parts[1]), int(parts[2])
