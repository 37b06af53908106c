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
