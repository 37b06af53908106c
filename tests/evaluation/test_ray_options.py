"""Options of the Ray executor, and its method with a pool that needs no Ray."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from helpers.sleeping_workers import scores_of

import diffcls
from diffcls.data.dataset import Dataset, Item
from diffcls.evaluation.executors import ray_worker
from diffcls.evaluation.executors.ray import RayMethod
from diffcls.evaluation.executors.ray_worker import MethodTask, hash_images, inputs_of
from diffcls.evaluation.options import EvaluationOptions, read_options
from diffcls.evaluation.plan import build_prompts, choose_images
from diffcls.support.errors import UsageError
from diffcls.support.workers.members import GivenUp

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install diffcls[ray]"
)


@pytest.mark.parametrize("given", [{"workers": 2}, {"address": "auto"}])
def test_options_of_workers_need_the_executor(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs --executor ray; remove"):
        read_options(given)


@needs_ray
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"executor": "slurm"}, "unknown executor: 'slurm'; allowed: serial, ray"),
        ({"workers": 0}, "--workers out of range: 0"),
        ({"address": "head"}, "--address cannot be read: 'head'; allowed: HOST:PORT"),
        ({"device": "cuda:1"}, "--device names one GPU"),
        ({"device_map": "balanced"}, "--device-map cannot be combined with --executor ray"),
        ({"budget": "1h"}, "--budget cannot be combined with --executor ray"),
        ({"multi_label": True}, "--multi-label cannot be combined with --executor ray"),
        ({"model": SimpleNamespace()}, "cannot send a model in memory to its workers"),
    ],
)
def test_what_workers_cannot_do_is_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_options({"executor": "ray", **given})
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_ray_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "ray" else find(name, *rest),
    )
    with pytest.raises(UsageError, match=r'needs Ray; pip install "diffcls\[ray\]"'):
        diffcls.run_evaluation(executor="ray")


@needs_ray
def test_where_a_run_is_scored_is_not_kept_with_it() -> None:
    options = read_options({"executor": "ray", "workers": 3, "address": "auto"})
    assert options.resolved() == EvaluationOptions().resolved()


def dataset_of(count: int) -> Dataset:
    items = tuple(Item(f"test/{i}", i % 2, lambda: None) for i in range(count))  # type: ignore[arg-type, return-value]
    return Dataset("pictures", "test", ("a", "b"), items, "1")


class Pool:
    """A pool without workers: it scores all keys at once, but for those given up."""

    def __init__(self, given_up: set[int]) -> None:
        self.given_up, self.calls, self.streamed = given_up, [], []

    def call(self, make: Any, name: str, *arguments: Any) -> Any:
        self.calls.append((name, *arguments))
        return {"fit": [], "attribute": 0.5}.get(name)

    def smallest_batch(self, make: Any) -> int:
        return 2 if self.streamed else 4  # memory halves it while images are scored

    def share(self, paths: Iterable[Any]) -> None:
        assert not list(paths)

    def stream(self, make: Any, keys: Iterable[int]) -> Iterator[tuple[int, Any]]:
        assert ("fit",) in self.calls  # one worker fits before any scores
        for key in keys:
            self.streamed.append(key)
            yield key, GivenUp() if key in self.given_up else scores_of(key)


def method_of(pool: Pool, dataset: Dataset, tmp_path: Any) -> RayMethod:
    task = SimpleNamespace(options=SimpleNamespace(output_dir=str(tmp_path)))
    return RayMethod(
        cast(Any, pool), cast(Any, task), cast(Any, SimpleNamespace(batch_size=4)), dataset
    )


def test_images_are_named_by_their_positions_and_those_given_up_fail(tmp_path: Any) -> None:
    data = dataset_of(6)
    pool = Pool(given_up={4})
    method = method_of(pool, data, tmp_path)
    results = list(method.classify(data.items[2:]))
    assert method.batch_size == 2  # the smallest one of the workers
    assert pool.streamed == [2, 3, 4, 5]
    errors = {result.image_id: result.error for result in results}
    died = "3 workers died while they scored this image"
    assert errors == {"test/2": None, "test/3": None, "test/4": died, "test/5": None}


def test_fitted_scales_and_checks_come_from_a_worker(tmp_path: Any) -> None:
    data = dataset_of(6)
    pool = Pool(given_up=set())
    method = method_of(pool, data, tmp_path)
    assert method.posterior_scale == 0.5
    method.check(data.items[1:3])
    assert pool.calls == [("attribute", "posterior_scale"), ("check", [1, 2])]


def test_hash_of_images_tells_other_images_labels_and_orders_apart() -> None:
    data = dataset_of(6)
    others = [
        data.take([0, 1, 2, 3, 5, 4]),
        data.take(range(5)),
        dataclasses.replace(data, items=(Item("test/0", 1, data.items[0].open), *data.items[1:])),
    ]
    assert len({hash_images(one) for one in (data, *others)}) == 4
    assert hash_images(data) == hash_images(dataset_of(6))


@pytest.mark.parametrize(
    ("name", "text"), [("data_revision", "data revision"), ("prompts", "prompts")]
)
def test_worker_with_other_inputs_than_the_run_is_refused(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_worker, "_is_entered", True)
    options = EvaluationOptions(limit=4, threads=1)
    dataset, _ = choose_images(options)
    inputs = inputs_of(dataset, build_prompts(options, dataset))
    task = MethodTask("diffusion", options, {**inputs, name: "other"}, 1)
    with pytest.raises(UsageError, match=rf"than its run has \({text}\)"):
        task()


def test_worker_with_another_model_than_the_run_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_worker, "_is_entered", True)  # this process outlives the test
    options = EvaluationOptions(limit=4, threads=1)
    dataset, _ = choose_images(options)
    task = MethodTask("diffusion", options, inputs_of(dataset, build_prompts(options, dataset)), 1)
    spec = task().facts().spec
    dataclasses.replace(task, spec=spec)()
    with pytest.raises(UsageError, match=r"than its run has \(dtype, model revision\)"):
        dataclasses.replace(task, spec={**spec, "model_revision": "old", "dtype": "bfloat16"})()
