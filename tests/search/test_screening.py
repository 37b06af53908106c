"""Screens as they are without a model: driven by made-up errors, they end, and lose nobody."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcls.classifiers.search_options import most_evaluations
from diffcls.data.prompts import PromptSet
from diffcls.search.clustering import parted
from diffcls.search.gradient import Expansions, Gradient, Rounds
from diffcls.search.propose import Proposal, Propose
from diffcls.search.racing import order_in_time
from diffcls.search.screening import Look, Narrowing, last_differences
from diffcls.search.tree import Descent, Group, Tree, grow
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64

pytestmark = pytest.mark.filterwarnings("error")

SEEDS = st.integers(0, 2**32 - 1)
CLASSES = st.integers(2, 60)
FEWER = settings(max_examples=60)
GRADIENTS = st.builds(
    Gradient,
    draws=st.integers(1, 12),
    candidates=st.integers(1, 8),
    round_draws=st.integers(1, 4),
    place=st.floats(0, 1),
    density=st.floats(0.01, 3),
    shrink=st.floats(0.05, 0.95),
    width=st.floats(0.01, 5),
)
TREES = st.builds(
    Tree,
    draws=st.integers(1, 12),
    candidates=st.integers(1, 8),
    branches=st.integers(2, 7),
    level_draws=st.integers(2, 5),
    beam=st.integers(1, 9),
)

Shows = Callable[[Look], np.ndarray]


def drive(narrowing: Narrowing, shows: Shows) -> list[Look]:
    """All looks of a narrowing, answered; what must hold of each is checked on the way."""
    made: list[Look] = []
    before = set(narrowing.alive.tolist())
    while (looks := narrowing.ask()) is not None:
        assert looks, "it would go on for ever"
        assert len(set(looks)) == len(looks), "the same is looked at twice"
        for look in looks:
            assert look.members == tuple(sorted(set(look.members)))
            assert before.issuperset(look.members), "a class came back"
        narrowing.tell([shows(look) for look in looks])
        made += looks
        alive = narrowing.alive.tolist()
        assert alive == sorted(set(alive)) and before.issuperset(alive)
        before = set(alive)
    assert narrowing.ask() is None  # and it stays done
    return made


def cost(looks: list[Look]) -> int:
    return sum(look.evaluations for look in looks)


def noisy(truth: Float64, seed: int, spread: float) -> Shows:
    """Errors of all classes for slopes; of a group, that of its best class."""

    def shows(look: Look) -> np.ndarray:
        rng = np.random.default_rng([seed, look.draw, *look.members])
        if look.slopes:
            return (truth + rng.normal(0, spread, len(truth))).astype(np.float32)
        return np.float32(truth[list(look.members)].min() + rng.normal(0, spread))  # type: ignore[return-value]

    return shows


def embeddings(classes: int, seed: int) -> Float64:
    """(K, 3), some of them equal."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(classes, 3))
    return points[rng.integers(0, classes, classes)]


def apart(classes: int, seed: int = 0) -> Float64:
    points = embeddings(classes, seed)
    found: Float64 = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return found


def begun(options: Gradient | Tree, classes: int, seed: int = 0) -> Rounds | Descent:
    if isinstance(options, Gradient):
        among = apart(classes, seed)
        return Rounds(options, among, parted(among, options.points(classes)))
    return Descent(options, classes, grow(apart(classes, seed), options.branches))


# ---- either screen -----------------------------------------------------------------------------


@FEWER
@given(st.one_of(GRADIENTS, TREES), CLASSES, SEEDS, st.sampled_from([0.0, 0.3, 30.0]))
def test_a_screen_ends_with_as_few_classes_as_it_says(
    options: Gradient | Tree, classes: int, seed: int, spread: float
) -> None:
    truth = np.random.default_rng(seed).normal(size=classes)
    narrowing = begun(options, classes, seed)
    looks = drive(narrowing, noisy(truth, seed, spread))
    most, left = options.most_before(classes)
    assert 1 <= len(narrowing.alive) <= left == min(classes, options.candidates)
    assert cost(looks) <= most
    assert all(0 <= look.draw < options.draws for look in looks)
    for leader in narrowing.alive:
        behind = narrowing.behind(int(leader))
        assert behind.shape == (classes,) and np.isfinite(behind).all()
        assert (behind[narrowing.alive] == 0).all()
        assert (np.delete(behind, narrowing.alive) > 0).all()


@FEWER
@given(st.one_of(GRADIENTS, TREES), CLASSES, SEEDS)
def test_the_best_class_survives_where_errors_are_far_apart(
    options: Gradient | Tree, classes: int, seed: int
) -> None:
    truth = np.random.default_rng(seed).permutation(classes).astype(np.float64)
    narrowing = begun(options, classes, seed)
    # noise a hundredth of the least gap
    drive(narrowing, noisy(truth, seed, 0.002))
    best = int(truth.argmin())
    assert best in narrowing.alive
    # the further behind, the worse: of a group all count alike
    if isinstance(options, Gradient) and classes > options.candidates:
        assert set(narrowing.alive.tolist()) == set(np.argsort(truth)[: options.candidates])


@pytest.mark.parametrize(
    "options", [Gradient(), Gradient(candidates=1), Tree(), Tree(candidates=1, beam=7)], ids=repr
)
@pytest.mark.parametrize("classes", [2, 3, 6, 7, 40])
def test_classes_that_are_all_alike_keep_their_order(
    options: Gradient | Tree, classes: int
) -> None:
    narrowings = [begun(options, classes) for _ in range(2)]
    for narrowing in narrowings:
        drive(narrowing, noisy(np.ones(classes), 0, 0.0))
    assert np.array_equal(narrowings[0].alive, narrowings[1].alive)
    assert np.array_equal(narrowings[0].behind(narrowings[0].alive[0]), narrowings[1].behind(0))
    if isinstance(options, Gradient):
        assert narrowings[0].alive.tolist() == list(range(min(classes, options.candidates)))


@pytest.mark.parametrize("options", [Gradient(candidates=9), Tree(candidates=9)], ids=repr)
@pytest.mark.parametrize("classes", [2, 9])
def test_no_more_classes_than_candidates_are_raced_at_once(
    options: Gradient | Tree, classes: int
) -> None:
    narrowing = begun(options, classes)
    assert narrowing.ask() is None
    assert narrowing.alive.tolist() == list(range(classes))
    assert not narrowing.behind(0).any()
    assert options.most_before(classes) == (0, classes)


@pytest.mark.parametrize("options", [Gradient(40), Tree(40)], ids=repr)
def test_a_thousand_classes_cost_less_than_one_evaluation_each(options: Gradient | Tree) -> None:
    truth = np.random.default_rng(1).uniform(1, 2, 1000)
    truth[777] = 0.0
    narrowing = begun(options, 1000)
    looks = drive(narrowing, noisy(truth, 1, 0.01))
    assert 777 in narrowing.alive
    assert cost(looks) < 1000
    assert 0 < cost(looks) <= options.most_before(1000)[0]


def test_a_budget_is_refused_as_the_race_does_not_know_what_its_screen_cost() -> None:
    for kind in (Gradient, Tree):
        with pytest.raises(UsageError, match=r"limit of evaluations.*without a screen: 50"):
            kind(budget=50)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gradient(candidates=0), "candidates out of range: 0; allowed: 1 or more"),
        (lambda: Gradient(round_draws=0), "round_draws out of range: 0"),
        (lambda: Gradient(place=1.1), r"place out of range: 1.1; allowed: \[0, 1\]"),
        (lambda: Gradient(density=0), "density out of range: 0; allowed: above 0"),
        (lambda: Gradient(width=float("inf")), "width out of range: inf"),
        (lambda: Gradient(shrink=1.0), r"shrink out of range: 1.0; allowed: \(0, 1\)"),
        (lambda: Gradient(shrink=float("nan")), "shrink out of range: nan"),
        (lambda: Gradient(draws=0), "draws out of range"),
        (lambda: Tree(candidates=-1), "candidates out of range: -1"),
        (lambda: Tree(branches=1), "branches out of range: 1; allowed: 2 or more"),
        (lambda: Tree(level_draws=1), "level_draws out of range: 1; allowed: 2 or more"),
        (lambda: Tree(beam=0), "beam out of range: 0"),
        (lambda: Propose(), "no CLIP model"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


# ---- gradient ----------------------------------------------------------------------------------


def begun_apart(options: Gradient, classes: int, seed: int) -> Rounds:
    """Rounds among classes no two of which are equal."""
    points = np.random.default_rng(seed).normal(size=(classes, 3))
    among = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return Rounds(options, among, parted(among, options.points(classes)))


@FEWER
@given(GRADIENTS, CLASSES, SEEDS)
def test_rounds_cost_exactly_what_was_said(options: Gradient, classes: int, seed: int) -> None:
    rounds = begun_apart(options, classes, seed)
    looks = drive(rounds, noisy(np.random.default_rng(seed).normal(size=classes), seed, 1.0))
    assert (cost(looks), len(rounds.alive)) == options.most_before(classes)
    # slopes first, then looks at single classes
    kinds = [look.slopes for look in looks]
    assert kinds == sorted(kinds, reverse=True)
    assert all(len(look.members) == 1 for look in looks if not look.slopes)
    assert {look.draw for look in looks} <= set(options.slope_draws)


def test_cost_grows_as_the_square_root_of_the_classes() -> None:
    options = Gradient(40)
    few, many = (options.most_before(classes)[0] for classes in (1000, 100_000))
    assert few < many < 11 * few


def test_each_round_looks_at_parts_of_who_is_left() -> None:
    options = Gradient(draws=9, candidates=2, density=0.9, shrink=0.4, width=2.5)
    rounds = begun_apart(options, 16, 0)
    truth = np.arange(16.0)[::-1]  # the last class is the best one
    looks = drive(rounds, noisy(truth, 0, 0.0))
    # ⌈0.9·√16⌉ = 4 points of all; ⌈2.5·√16⌉ = 10 classes are left, one look each
    groups = [look.members for look in looks]
    assert sorted(k for group in groups[:4] for k in group) == list(range(16))
    assert groups[4:] == [(k,) for k in range(6, 16)]
    assert rounds.alive.tolist() == [14, 15]


def test_slopes_are_taken_where_they_say_most() -> None:
    # the draws of five places in time, from the first to the last
    ordered = order_in_time(9).tolist()
    for place, middle in ((0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)):
        assert Gradient(draws=9, place=place).slope_draws == [ordered[middle]]
    assert Gradient(draws=9, place=0.25, round_draws=3).slope_draws == ordered[1:4]
    assert Gradient(draws=9, place=1.0, round_draws=3).slope_draws == ordered[6:]
    # no draw is made twice
    assert sorted(Gradient(draws=2, round_draws=4).slope_draws) == [0, 1]


def test_expansions_of_a_quadratic_error_are_exact() -> None:
    rng = np.random.default_rng(3)
    classes = rng.normal(size=(30, 4))
    best, steep, curved = rng.normal(size=4), rng.normal(size=4), 0.7

    def error(at: Float64) -> Float64:
        found: Float64 = 2 + at @ steep + curved * ((at - best) ** 2).sum(axis=-1)
        return found

    def first_order(group: Group) -> Float64:
        """e(p) + ⟨∂e/∂c, c_k − p⟩ at the group's mean p."""
        point = classes[list(group)].mean(axis=0)
        slope = steep + 2 * curved * (point - best)
        found: Float64 = error(point) + (classes - point) @ slope
        return found

    among = np.linalg.norm(classes[:, None] - classes[None], axis=-1)
    groups = (tuple(range(10)), (3, 11, 12), (20,))
    shown = Expansions(among)
    shown.add(groups[:1], np.stack([first_order(groups[0])]))
    # one point knows of no curvature
    centre = classes[:10].mean(axis=0)
    bend = curved * ((classes - centre) ** 2).sum(axis=1)
    np.testing.assert_allclose(shown.errors(), error(classes) - bend, rtol=1e-9)
    # what was seen before is not counted twice
    shown.add(groups, np.stack([first_order(group) for group in groups]))
    np.testing.assert_allclose(shown.errors(), error(classes), rtol=1e-9)


def test_a_class_that_is_a_point_has_the_error_of_that() -> None:
    among = apart(8, 4) + 1 - np.eye(8)
    shown = Expansions(among)
    rng = np.random.default_rng(0)
    said = rng.normal(size=(3, 8))
    shown.add(((2,), (0, 1), (3, 4, 5)), said)
    assert shown.errors()[2] == pytest.approx(said[0, 2], rel=1e-6)


def test_groups_are_classes_that_lie_together() -> None:
    places = np.array([0.0, 10.0, 0.1, 10.2, 50.0, 0.3])
    among = np.abs(places[:, None] - places[None])
    assert parted(among, 3) == ((0, 2, 5), (1, 3), (4,))
    assert parted(among, 1) == (tuple(range(6)),)
    assert parted(among, 6) == tuple((k,) for k in range(6))
    assert parted(np.zeros((1, 1)), 4) == ((0,),)
    # equal classes are not parted
    assert sum(map(len, parted(np.zeros((5, 5)), 3))) == 5


def test_distance_is_that_of_the_last_round_in_which_a_class_was() -> None:
    seen = [np.array([3.0, 1.0, 2.0, 9.0]), np.array([0.5, 0.25, np.nan, np.nan])]
    behind = last_differences(seen, np.array([1]), leader=1)
    assert behind.tolist() == [0.25, 0.0, 1.0, 8.0]
    # whoever seemed better once, and is out, is behind by next to nothing
    behind = last_differences([np.array([1.0, 5.0])], np.array([1]), leader=1)
    assert 0 < behind[0] < 1e-30 and behind[1] == 0


# ---- tree --------------------------------------------------------------------------------------


@FEWER
@given(CLASSES, st.integers(2, 9), SEEDS)
def test_every_group_is_parted_into_its_branches(classes: int, branches: int, seed: int) -> None:
    opened = grow(apart(classes, seed), branches)
    waiting: list[Group] = [tuple(range(classes))]
    met = set()
    while waiting:
        group = waiting.pop()
        met.add(group)
        parts = opened[group]
        assert sorted(k for part in parts for k in part) == list(group)
        assert len(parts) == min(branches, len(group))
        assert list(parts) == sorted(parts)
        waiting += [part for part in parts if len(part) > 1]
    assert met == set(opened)


def test_classes_that_lie_together_are_grouped() -> None:
    places = np.array([0.0, 10.0, 0.1, 10.2, 50.0, 0.3])
    opened = grow(np.abs(places[:, None] - places[None]), 3)
    assert opened[(0, 1, 2, 3, 4, 5)] == ((0, 2, 5), (1, 3), (4,))
    assert opened[(0, 2, 5)] == ((0,), (2,), (5,))
    assert opened[(1, 3)] == ((1,), (3,))
    assert grow(np.zeros((1, 1)), 3) == {}


def test_equal_classes_are_opened_as_wide_as_others() -> None:
    opened = grow(np.zeros((9, 9)), 3)
    assert {len(parts) for group, parts in opened.items() if len(group) >= 3} == {3}


def test_a_level_races_on_draws_that_no_earlier_one_has_seen() -> None:
    options = Tree(draws=40, candidates=1, branches=2, level_draws=2, beam=1)
    truth = np.arange(8.0)
    looks = drive(begun(options, 8), noisy(truth, 0, 0.0))
    draws_of: dict[int, set[int]] = {}  # by the number of classes of a level's pair of groups
    levels = [looks[i : i + 4] for i in range(0, len(looks), 4)]  # two groups, two draws each
    for n, level in enumerate(levels):
        draws_of[n] = {look.draw for look in level}
        assert len({look.members for look in level}) == 2
        assert not any(look.slopes for look in level)
    assert [sorted(draws) for draws in draws_of.values()] == [
        [2 * n, 2 * n + 1] for n in range(len(levels))
    ]
    assert len(levels) > 1


def test_more_groups_than_candidates_are_never_left() -> None:
    # the beam would leave five classes
    options = Tree(draws=6, candidates=2, branches=6, beam=5)
    descent = begun(options, 6)
    drive(descent, noisy(np.array([4.0, 3.0, 3.0, 0.0, 0.0, 9.0]), 0, 1e-6))
    assert len(descent.alive) <= 2
    assert set(descent.alive.tolist()) <= {3, 4}


# ---- candidates of another model ---------------------------------------------------------------


def test_the_likeliest_are_proposed_and_the_others_keep_their_order() -> None:
    likely = np.array([0.1, 0.7, 0.3, 0.7, -0.2, 0.2], dtype=np.float32)
    proposal = Proposal(likely, 3)
    assert proposal.ask() is None
    assert proposal.alive.tolist() == [1, 2, 3]
    behind = proposal.behind(3)
    assert (behind[[1, 2, 3]] == 0).all()
    assert np.argsort(behind)[3:].tolist() == [5, 0, 4]
    assert (np.diff(np.sort(behind)[2:]) > 100).all()  # errors are about 1
    everybody = Proposal(likely, 6)
    assert everybody.alive.tolist() == list(range(6)) and not everybody.behind(0).any()
    tied = Proposal(np.zeros(4), 2)
    assert tied.alive.tolist() == [0, 1]


# ---- what an image costs at most ---------------------------------------------------------------


def test_the_cost_of_an_image_is_that_of_its_screen_and_of_a_race_to_the_end() -> None:
    one = PromptSet.from_templates([f"{k}" for k in range(10)], ["{}"])
    # 10 classes: 2 points of three evaluations; then 3 classes × 20 draws
    gradient = Gradient(20, candidates=3, width=1)
    assert most_evaluations(gradient, one) == 2 * 3 + 3 * 20
    # a screen looks at a mean however many prompts it is of; a race counts prompts
    two = PromptSet.from_templates([f"{k}" for k in range(10)], ["{}", "a {}"])
    assert most_evaluations(gradient, two) == 2 * 3 + 2 * 3 * 20
    assert most_evaluations(Propose(20, candidates=3, proposer="x"), two) == 2 * 3 * 20
    for draws in (10, 40):
        assert most_evaluations(Tree(draws), one) < 10 * draws + 60
