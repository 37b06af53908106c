"""Generation by workers: the images and measurements of the serial run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import diffcls
from diffcls.generation import workers
from diffcls.generation.generation_options import GenerationOptions
from diffcls.generation.image_grid import to_bytes
from diffcls.generation.options import WorkerOptions
from diffcls.generation.requests import prepared
from diffcls.generation.workers import GenerationTask, ServedBatches
from diffcls.support.errors import UsageError
from diffcls.support.workers.cluster import connected

RAY = {"executor": "ray", "workers": 2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install diffcls[ray]")
    with connected(None) as one:
        yield one


def test_batches_of_a_worker_are_those_of_the_whole_run_in_any_order(tmp_path: Path) -> None:
    options = GenerationOptions(
        classes=("3", "7"), count=3, batch_size=2, steps=2, threads=1, output_dir=tmp_path
    )
    served = GenerationTask(options)()
    assert isinstance(served, ServedBatches)
    found = dict(served.stream(iter((4, 0, 2))))
    workers._opened.close()  # a worker's process keeps it open
    with options.opened() as denoiser:
        for number, batch in enumerate(prepared(options, denoiser).batches(None)):
            assert (found[2 * number][0] == to_bytes(batch.images)).all()
    assert list(found) == [4, 0, 2]


@pytest.mark.parametrize("given", [{"workers": 2}, {"address": "auto"}])
def test_options_of_workers_need_the_executor(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs --executor ray"):
        diffcls.generate_images(**given)


def test_unknown_executor_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown executor: 'slurm'"):
        WorkerOptions(executor="slurm")


@pytest.mark.slow
def test_generated_images_are_those_of_the_serial_run(cluster: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"classes": ("3", "7"), "count": 5, "batch_size": 4, "steps": 3}
    options |= {"threads": 1, "quiet": True, "trajectory": True}
    serial = diffcls.generate_images(**options, output_dir=tmp_path / "serial")
    ray = diffcls.generate_images(**options, output_dir=tmp_path / "ray", **RAY)
    names = sorted(path.name for path in serial.folder.iterdir())
    assert names == sorted(path.name for path in ray.folder.iterdir())
    for name in names:
        assert (serial.folder / name).read_bytes() == (ray.folder / name).read_bytes(), name


@pytest.mark.slow
def test_measured_fidelity_is_that_of_the_serial_run(cluster: Any) -> None:
    options: dict[str, Any] = {"count": 40, "batch_size": 16, "steps": 2, "threads": 1}
    options |= {"guidance": (1.0, 2.0), "metrics": ("FID", "KID"), "quiet": True}
    assert diffcls.measure_fidelity(**options, **RAY) == diffcls.measure_fidelity(**options)
