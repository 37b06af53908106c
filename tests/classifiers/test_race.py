"""States of the search on one image: what the search saw, and the scores of `classify` at last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers import screened
from helpers.answers import assert_same
from helpers.races import MAKE, empty
from PIL import Image
from torch import Tensor

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import to_image
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring.class_scores import ClassScores
from diffcls.scoring.search_state import SearchState
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.racing import Racing
from diffcls.support.errors import DataError

K, SIDE, DRAWS = 6, 4, 24
NAMES = [f"class {k}" for k in range(K)]
MEANS = np.random.default_rng(11).uniform(-0.5, 0.5, (K, 3, SIDE, SIDE))
MEAN_OF = {name: torch.tensor(MEANS[k], dtype=torch.float32) for k, name in enumerate(NAMES)}


class Counting(GaussianDenoiser):
    """Counts the forward passes."""

    passes = 0

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        self.passes += 1
        return super().predict(x_t, index, cond)


def item(k: int, seed: int = 0) -> Item:
    rng = np.random.default_rng([k, seed])
    image = to_image(MEANS[k] + rng.normal(0, 0.25, MEANS[k].shape))
    return Item(f"test/{k}-{seed}", k, lambda: image)


def method(search: Any, batch_size: int = 16, **options: Any) -> DiffusionMethod:
    prompts = PromptSet.from_templates(NAMES, ["{}"])
    options = {"keep_errors": True, "encode_batch": 2, **options}
    return DiffusionMethod(
        Counting(MEAN_OF, 0.25), prompts, search, batch_size=batch_size, **options
    )


def classified(one: DiffusionMethod, image: Item) -> ClassScores:
    (result,) = one.classify([image])
    return result


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("batch_size", [1, 7, 16])
@pytest.mark.parametrize("k", [0, 3])
def test_the_last_state_is_the_result_and_costs_the_same_evaluations(
    make: Any, batch_size: int, k: int
) -> None:
    *earlier, last = method(make(DRAWS), batch_size).race(item(k))
    expected = classified(method(make(DRAWS), batch_size), item(k))
    assert last.finished and not any(state.finished for state in earlier)
    assert_same(
        ClassScores(expected.image_id, last.scores, last.ranking, last.evaluations, 0.0),
        ClassScores(expected.image_id, expected.scores, expected.ranking, expected.evaluations, 0),
    )
    assert expected.errors is not None
    assert last.draws.tolist() == (~np.isnan(expected.errors)).sum(axis=1).tolist()
    assert last.alive[last.ranking[0]]


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("batch_size", [1, 16])
def test_classes_only_drop_out_and_evaluations_and_draws_only_grow(
    make: Any, batch_size: int
) -> None:
    states = list(method(make(DRAWS), batch_size).race(item(1)))
    assert states[0].evaluations == 0 and states[0].alive.all()
    for before, after in itertools.pairwise(states):
        assert not (after.alive & ~before.alive).any()
        assert (after.draws >= before.draws).all()
        assert after.evaluations >= before.evaluations
        # a class that has dropped out gets no further draw
        assert (after.draws == before.draws)[~before.alive].all()


def test_each_state_is_what_the_search_saw_after_that_draw() -> None:
    """Against the full table, and the search's own requests, made here one after another."""
    search = Racing(DRAWS)
    truth = classified(method(Exhaustive(DRAWS)), item(2)).errors
    assert truth is not None
    table, alive_after = empty(K, DRAWS), {0: set(range(K))}
    while (requested := search.ask(table)) is not None:
        k, draw = requested.T
        table[k, draw] = truth[k, draw]
        alive_after[int(draw.max())] = set(k.tolist())
    assert len(alive_after) > 3  # the race is not over at once
    seen = set()
    for state in method(search, batch_size=5).race(item(2)):
        draws = int(state.draws.max())
        if state.finished or draws not in alive_after or draws < 2:
            continue
        seen.add(draws)
        assert set(np.flatnonzero(state.alive).tolist()) == alive_after[draws]
        counted = (~np.isnan(table[:, :draws])).sum(axis=1)
        assert state.draws.tolist() == counted.tolist()
        leader = int(state.ranking[0])
        for rival in range(K):  # the paired difference on common draws, by hand
            n = counted[rival]
            behind = float((truth[rival, :n] - truth[leader, :n]).mean(dtype=np.float64))
            shown = state.scores[leader] - state.scores[rival]
            assert shown == pytest.approx(max(behind, 0.0), abs=1e-6)
    assert seen == {draws for draws in alive_after if draws >= 2}


def test_a_race_decided_before_its_last_draw_leaves_one_class_and_a_tie_leaves_both() -> None:
    *_, decided = method(Racing(DRAWS)).race(item(0))
    assert decided.draws.max() < DRAWS
    assert np.flatnonzero(decided.alive).tolist() == [0]
    means = {**MEAN_OF, NAMES[1]: MEAN_OF[NAMES[0]] + 1e-4}
    prompts = PromptSet.from_templates(NAMES, ["{}"])
    tie = DiffusionMethod(GaussianDenoiser(means, 0.25), prompts, Racing(4))
    *_, tied = tie.race(item(0))
    assert tied.draws.max() == 4
    assert np.flatnonzero(tied.alive).tolist() == [0, 1]


def test_a_race_that_its_budget_ends_leaves_all_classes_that_nothing_separates() -> None:
    *_, short = method(Racing(DRAWS, budget=2 * K)).race(item(2))
    *_, whole = method(Racing(DRAWS)).race(item(2))
    assert short.evaluations == 2 * K < whole.evaluations
    assert short.alive.sum() > 1


@pytest.mark.parametrize("search", screened.SCREENS.values(), ids=screened.SCREENS)
def test_a_screen_drops_classes_before_their_first_draw(search: Any) -> None:
    states = list(screened.method(search).race(screened.item(4)))
    (expected,) = screened.method(search).classify([screened.item(4)])
    assert expected.raced is not None
    last = states[-1]
    assert np.array_equal(last.scores, expected.scores)
    assert np.array_equal(last.ranking, expected.ranking)
    assert last.evaluations == expected.evaluations
    assert set(np.flatnonzero(last.draws).tolist()) == set(expected.raced.tolist())
    for before, after in itertools.pairwise(states):
        assert not (after.alive & ~before.alive).any()
        assert after.evaluations >= before.evaluations


def test_a_device_that_computes_by_itself_changes_no_state() -> None:
    """There, a batch is collected while the next one runs."""
    expected = list(method(Racing(DRAWS), batch_size=5).race(item(2)))
    overlapping = method(Racing(DRAWS), batch_size=5)
    overlapping._runner.overlaps = True
    states = list(overlapping.race(item(2)))
    assert [s.evaluations for s in states] == [s.evaluations for s in expected]
    for one, two in zip(states, expected, strict=True):
        assert np.array_equal(one.scores, two.scores) and np.array_equal(one.alive, two.alive)


# ---- cancellation, and several races at once -----------------------------------------------------


def test_a_closed_race_makes_no_further_forward_pass() -> None:
    running = method(Exhaustive(DRAWS), batch_size=4)
    states = running.race(item(0))
    while next(states).evaluations < 8:
        pass
    spent = running.denoiser.passes
    assert 0 < spent < K * DRAWS / 4
    states.close()
    assert list(states) == []
    assert running.denoiser.passes == spent


def test_nothing_is_computed_between_two_states() -> None:
    running = method(Exhaustive(DRAWS), batch_size=K)
    for i, _ in enumerate(running.race(item(0))):
        assert running.denoiser.passes == i  # a draw of all classes is a batch


def test_two_races_on_one_method_take_turns_and_do_not_mix() -> None:
    shared = method(Racing(DRAWS))
    images = [item(0), item(3)]
    alone = [list(method(Racing(DRAWS)).race(image)) for image in images]
    together: list[list[SearchState]] = [[], []]
    running: dict[int, Iterator[SearchState]] = {
        i: shared.race(one) for i, one in enumerate(images)
    }
    while running:
        for i in list(running):
            state = next(running[i], None)
            if state is None:
                del running[i]
            else:
                together[i].append(state)
    for one, two in zip(alone, together, strict=True):
        assert [s.evaluations for s in one] == [s.evaluations for s in two]
        assert all(np.array_equal(a.scores, b.scores) for a, b in zip(one, two, strict=True))


def test_an_image_that_cannot_be_scored_is_an_error() -> None:
    def broken() -> Image.Image:
        raise DataError("image 0 is broken")

    with pytest.raises(DataError, match="image 0 is broken"):
        list(method(Racing(DRAWS)).race(Item("x", 0, broken)))
