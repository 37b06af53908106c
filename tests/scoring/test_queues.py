"""Queues: batches of one kind, in order, and nothing lost when they are put back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from diffcls.data.prompts import PromptSet
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring.batches import Evaluation, EvaluationBatch, ProbeBatch
from diffcls.scoring.image_state import ImageState, ScoringTask
from diffcls.scoring.next_requests import next_evaluations
from diffcls.scoring.queues import Queues
from diffcls.search.aggregation import mean
from diffcls.search.base import Search
from diffcls.search.embeddings import Points
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.halving import Halving
from diffcls.search.screening import Probe

CLASSES = 4
PROMPTS = PromptSet.from_templates([f"{k}" for k in range(CLASSES)], ["{}"])


class Probes:
    """A screening that requests the same probes without end."""

    shortlist = np.arange(CLASSES)

    def __init__(self, probes: list[Probe]) -> None:
        self.probes = probes

    def request(self) -> list[Probe]:
        return self.probes

    def receive(self, results: Any) -> None:
        raise AssertionError("there are no results")

    def deficits(self, leader: int) -> Any:
        raise AssertionError("the race has not begun")


def state(search: Search, draws: int, screening: Probes | None = None) -> ImageState:
    task = ScoringTask(PROMPTS, search, mean, False, False, False)
    return ImageState("test/0", (), torch.zeros(3, 2, 2), (CLASSES, draws), task, screening)


def points() -> Points:
    model = GaussianDenoiser({f"{k}": torch.full((3, 2, 2), float(k)) for k in range(CLASSES)})
    return Points(PROMPTS, model.encode_prompts(PROMPTS.prompts))


def test_a_batch_is_of_one_kind_and_in_order() -> None:
    queues = Queues(points())
    one, other = state(Exhaustive(3), 3), state(Exhaustive(1), 1)
    probes = [Probe((0,), i, gradient=i % 2 == 0) for i in range(26)]
    screened = state(Exhaustive(1), 26, Probes(probes))
    for image in (one, screened, other):
        queues.add(image)
    assert len(queues) == 12 + 26 + 4 and queues.longest() == 16
    assert (one.pending, screened.pending, other.pending) == (12, 26, 4)
    requests = [Evaluation(one, k, draw) for draw in range(3) for k in range(CLASSES)]
    requests += [Evaluation(other, k, 0) for k in range(CLASSES)]
    batch = queues.take(14)
    assert isinstance(batch, EvaluationBatch) and batch.requests == requests[:14]
    kinds = []
    while queues.longest() > 2:
        probed = queues.take(100)
        assert isinstance(probed, ProbeBatch)
        assert [r.probe for r in probed.requests] == probes[0 if probed.gradient else 1 :: 2]
        assert [r.place for r in probed.requests] == [r.probe.draw for r in probed.requests]
        kinds.append(probed.gradient)
    assert sorted(kinds) == [False, True]
    batch.put_back()
    again = queues.take(100)
    assert isinstance(again, EvaluationBatch) and again.requests == requests
    assert not queues


def test_a_batch_of_probes_goes_back_to_the_front() -> None:
    queues = Queues(points())
    probes = [Probe((k,), k, gradient=True) for k in range(CLASSES)]
    queues.add(state(Exhaustive(4), 4, Probes(probes)))
    queues.take(3).put_back()
    batch = queues.take(9)
    assert isinstance(batch, ProbeBatch) and [r.probe for r in batch.requests] == probes


def test_speculative_results_are_used_once_they_are_requested() -> None:
    queues = Queues()
    image = state(Halving(8, start=2), 8)
    queues.add(image)
    queues.take(100)
    for k in range(CLASSES):
        for draw in range(2):
            image.record(k, draw, float(k))
    # of the two classes that are left, all draws of one are known, and one of the other
    image.speculative = {(0, 2): 0.0, (0, 3): 0.0, (1, 2): 1.0, (3, 2): 9.0, (1, 3): float("nan")}
    queues.add(image)
    assert (image.pending, image.evaluations) == (1, 8 + 3)
    batch = queues.take(9)
    assert isinstance(batch, EvaluationBatch) and batch.requests == [Evaluation(image, 1, 3)]
    assert image.speculative == {(3, 2): 9.0}  # class 3 was dropped: its result is never used
    assert np.isnan(image.table[3, 2])


def test_next_requests_do_not_change_the_state() -> None:
    image = state(Halving(8, start=2), 8)
    image.speculative = {(0, 0): 1.0}
    before = image.table.copy()
    first, second = next_evaluations(image), next_evaluations(image)
    assert first.requested is not None and second.requested is not None
    assert np.array_equal(first.requested, second.requested)
    assert np.array_equal(first.pairs, second.pairs)
    assert np.array_equal(image.table, before, equal_nan=True)
    assert image.requested is None and image.speculative == {(0, 0): 1.0} and not image.pending


# ---- probes that are evaluations too ------------------------------------------------------------


class OneRound:
    """A screening of one round of probes, after which some classes are left."""

    def __init__(self, probes: list[Probe], shortlist: list[int]) -> None:
        self.probes, self.shortlist = probes, np.array(shortlist)

    def request(self) -> list[Probe] | None:
        return self.probes or None

    def receive(self, results: Any) -> None:
        assert [float(result) for result in results] == [p.members[0] + 0.5 for p in self.probes]
        self.probes = []

    def deficits(self, leader: int) -> Any:
        raise AssertionError("the race has not begun")


def screened(prompts: PromptSet, probes: list[Probe], shortlist: list[int]) -> ImageState:
    task = ScoringTask(prompts, Exhaustive(2), mean, False, False, False)
    screening: Any = OneRound(probes, shortlist)
    return ImageState("test/0", (), torch.zeros(3, 2, 2), (len(prompts), 2), task, screening)


def probe_all(queues: Queues, image: ImageState) -> None:
    """Answer the probes of an image: the error of class k is k + 0.5."""
    queues.add(image)
    batch = queues.take(100)
    assert isinstance(batch, ProbeBatch)
    batch.deliver(torch.tensor([[r.probe.members[0] + 0.5] for r in batch.requests]))
    image.pending = 0


def test_a_probe_of_a_class_is_not_evaluated_again_and_is_counted_once() -> None:
    queues = Queues(points())
    probes = [Probe((k,), 1, gradient=False, reuse=True) for k in (3, 1, 0)]
    image = screened(PROMPTS, probes, [1, 2, 3])
    probe_all(queues, image)
    assert image.evaluations == 3 and np.isnan(image.table).all()
    queues.add(image)
    # of the six evaluations of the race, two are there: class 2 was not probed
    batch = queues.take(100)
    assert isinstance(batch, EvaluationBatch)
    asked = [(request.prompt, request.draw) for request in batch.requests]
    assert asked == [(1, 0), (2, 0), (3, 0), (2, 1)]
    assert image.pending == 4 and image.evaluations == 3
    assert image.table[[1, 3], 1].tolist() == [1.5, 3.5]
    assert np.isnan(image.table[0]).all()  # class 0 does not race
    for prompt, draw in asked:
        image.record(prompt, draw, 9.0)
    assert image.evaluations == 3 + 4


def test_a_probe_without_reuse_is_evaluated_again() -> None:
    queues = Queues(points())
    image = screened(PROMPTS, [Probe((k,), 1, gradient=False) for k in (3, 1)], [1, 3])
    probe_all(queues, image)
    queues.add(image)
    assert image.pending == 4 and not image.speculative


def test_the_mean_of_several_prompts_is_the_evaluation_of_none_of_them() -> None:
    # class 0 has one prompt, class 1 two
    prompts = PromptSet(("a", "b"), ("a", "b", "my b"), (0, 1, 1))
    model = GaussianDenoiser({p: torch.full((3, 2, 2), float(len(p))) for p in prompts.prompts})
    queues = Queues(Points(prompts, model.encode_prompts(prompts.prompts)))
    probes = [Probe((k,), 0, gradient=False, reuse=True) for k in (0, 1)]
    image = screened(prompts, probes, [0, 1])
    probe_all(queues, image)
    queues.add(image)
    batch = queues.take(100)
    assert isinstance(batch, EvaluationBatch)
    asked = {(request.prompt, request.draw) for request in batch.requests}
    assert asked == {(1, 0), (2, 0), (0, 1), (1, 1), (2, 1)}
    assert image.evaluations == 2


def test_a_probe_that_is_not_finite_is_evaluated_again() -> None:
    image = screened(PROMPTS, [], [0, 1])
    image.keep_for_race(0, 0, float("nan"))
    assert not image.use_speculative(0, 0)
    assert image.evaluations == 0 and np.isnan(image.table).all()


def test_probes_with_features_are_a_kind_of_their_own() -> None:
    queues = Queues(points())
    both = [Probe((0, 1), i, gradient=True, features=i % 2 == 0) for i in range(4)]
    queues.add(state(Exhaustive(4), 4, Probes(both)))
    for _ in range(2):
        batch = queues.take(9)
        assert isinstance(batch, ProbeBatch) and len(batch) == 2
        assert {r.probe.features for r in batch.requests} == {batch.features}
