"""Ray executor on a cluster: nodes that die and nodes that join, beside killed workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ray_processes import done_at, kill_a_worker, node_cluster
from helpers.sleeping_workers import Sleeping

import diffcls
from diffcls.runs.record import Record, read_records
from diffcls.support.workers.cluster import connected
from diffcls.support.workers.pool import Pool

pytest.importorskip("ray", reason="Ray is not installed: pip install diffcls[ray]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster of one node without CPUs, to which a test adds others."""
    with node_cluster() as cluster:
        yield cluster


def records_of(folder: Path) -> list[Record]:
    (run,) = (folder / "runs").iterdir()
    records = [r for path in sorted(run.glob("records-*")) for r in read_records(path)]
    return sorted(
        (dataclasses.replace(record, seconds=0.0) for record in records),
        key=lambda record: record.image_id,
    )


def test_records_equal_the_serial_ones_after_two_workers_and_a_node_were_killed(
    nodes: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"dataset": "digits", "limit": 120, "draws": 16, "quiet": True}
    options |= {"threads": 1, "batch_size": 16}
    diffcls.run_evaluation(**options, output_dir=str(tmp_path / "serial"))
    nodes.add_node(num_cpus=1)
    other = nodes.add_node(num_cpus=1)
    folder = tmp_path / "ray"
    steps = [
        (10, kill_a_worker),
        (30, kill_a_worker),
        (50, lambda: nodes.remove_node(other, allow_graceful=False)),
    ]
    with done_at(folder, steps) as called:
        diffcls.run_evaluation(
            **options,
            output_dir=str(folder),
            executor="ray",
            workers=2,
            address=nodes.address,
        )
    assert len(called) == 3
    assert called[-1] < 120
    assert records_of(folder) == records_of(tmp_path / "serial")


def test_a_worker_that_waits_for_a_node_takes_part_once_that_joins(
    nodes: Any, tmp_path: Path
) -> None:
    nodes.add_node(num_cpus=1)
    make = Sleeping(str(tmp_path / "log"), 0.01)
    with connected(nodes.address) as cluster:
        pool = Pool(cluster, 2)
        results: dict[int, Any] = {}
        for key, result in pool.stream(make, range(2000)):
            results[key] = result
            if len(results) == 50:
                assert len(pool.pids) == 1
                nodes.add_node(num_cpus=1)
        pool.close()
    assert len(results) == 2000
    workers = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
    assert len(workers) == 2
