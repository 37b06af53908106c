"""Shards: from flags that agree, or from the variables of torchrun and SLURM."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcls.runs.sharding import shard_from
from diffcls.support.errors import UsageError

TORCHRUN = ("RANK", "WORLD_SIZE")
ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")
SRUN = ("SLURM_PROCID", "SLURM_NTASKS")
STEP_ID = "SLURM_STEP_ID"
FIRST, STEP = "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, (0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4"}, (2, 4)),
        ({SRUN[0]: "1", SRUN[1]: "2", STEP_ID: "0"}, (1, 2)),
        ({SRUN[0]: "1", SRUN[1]: "2", STEP_ID: "17"}, (1, 2)),
        ({SRUN[0]: "0", SRUN[1]: "4"}, (0, 1)),  # a batch script, before srun
        ({SRUN[0]: "0", SRUN[1]: "4", STEP_ID: "4294967291"}, (0, 1)),
        ({SRUN[0]: "0", SRUN[1]: "4", STEP_ID: "4294967290"}, (0, 1)),  # an interactive shell
        ({SRUN[0]: "0", SRUN[1]: "4", STEP_ID: "batch"}, (0, 1)),
        ({ARRAY[0]: "3", ARRAY[1]: "4"}, (3, 4)),
        ({ARRAY[0]: "4", ARRAY[1]: "4", FIRST: "1"}, (3, 4)),
        ({ARRAY[0]: "20", ARRAY[1]: "4", FIRST: "0", STEP: "10"}, (2, 4)),  # --array=0-30:10
        ({ARRAY[0]: "7", ARRAY[1]: "3", FIRST: "1", STEP: "3"}, (2, 3)),  # --array=1-7:3
        ({SRUN[0]: "0", STEP_ID: "0"}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2", ARRAY[0]: "0", ARRAY[1]: "9"}, (1, 2)),
    ],
    ids=str,
)
def test_launchers_describe_the_shard(environment: dict[str, str], shard: tuple[int, int]) -> None:
    assert shard_from(environment) == shard


@given(st.integers(1, 30), st.integers(0, 50), st.integers(1, 20))
def test_array_tasks_partition_the_images(count: int, first: int, step: int) -> None:
    common = {ARRAY[1]: str(count), FIRST: str(first), STEP: str(step)}
    shards = [
        shard_from({**common, ARRAY[0]: str(index)})
        for index in range(first, first + count * step, step)
    ]
    assert shards == [(i, count) for i in range(count)]


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"RANK": ""}, "RANK"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK"),
        ({"RANK": "0", "WORLD_SIZE": ""}, "WORLD_SIZE"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK"),
        ({"RANK": "1.0", "WORLD_SIZE": "2"}, "RANK"),
        ({"RANK": "1_0", "WORLD_SIZE": "20"}, "RANK"),
        ({"RANK": "٣", "WORLD_SIZE": "20"}, "RANK"),
        ({"RANK": "9" * 5000, "WORLD_SIZE": "2"}, "RANK"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 WORLD_SIZE=2"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0 WORLD_SIZE=0"),
        ({ARRAY[0]: "7", ARRAY[1]: "3", FIRST: "1", STEP: "1"}, ARRAY[0]),  # --array=1,3,7
        ({ARRAY[0]: "2", ARRAY[1]: "3", FIRST: "1", STEP: "3"}, ARRAY[0]),
        ({ARRAY[0]: "2", ARRAY[1]: "3", FIRST: "1", STEP: "0"}, ARRAY[0]),
        ({ARRAY[0]: "2", ARRAY[1]: "3", FIRST: ""}, FIRST),
        ({SRUN[0]: "0", SRUN[1]: "all", STEP_ID: "0"}, "SLURM_NTASKS"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_malformed_variable_is_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        shard_from(environment)
    assert shard_from(environment, shard="1/3") == (1, 3)  # flags come first


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("0/2", 3, None), "--shard 0/2 --n-workers 3"),
        (("0/2", None, 1), "--shard 0/2 --worker-idx 1"),
        (("0/2", 2, 1), "--shard 0/2 --worker-idx 1"),
        (("1_0/20", None, None), "--shard cannot be read"),
        (("0 /2", None, None), "--shard cannot be read"),
        (("0/2/3", None, None), "--shard cannot be read"),
        (("", None, None), "--shard cannot be read"),
        (("0/" + "9" * 5000, None, None), "--shard cannot be read"),
        ((None, 10**30, 0), "--shard out of range"),
        ((None, 2, None), "must be given together"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_contradictory_or_malformed_flags_are_named(
    flags: tuple[str | None, int | None, int | None], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        shard_from({}, *flags)


def test_flags_that_agree_are_taken() -> None:
    assert shard_from({}, "1/2", 2, 1) == shard_from({}, "1/2") == shard_from({}, None, 2, 1)
