"""Screens without a model, driven by synthetic errors: they end and keep the best class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcls.classifiers.search_options import most_evaluations
from diffcls.data.prompts import PromptSet
from diffcls.search.clustering import cluster
from diffcls.search.gradient import Expansions, Gradient, GradientScreening
from diffcls.search.propose import Proposal, Propose
from diffcls.search.racing import order_in_time
from diffcls.search.screening import Probe, Screening, last_differences
from diffcls.search.tree import Group, Tree, TreeScreening, grow
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

Shows = Callable[[Probe], np.ndarray]


def drive(screening: Screening, shows: Shows) -> list[Probe]:
    """Run a screening to its end and return its probes; invariants are checked on the way."""
    made: list[Probe] = []
    before = set(screening.shortlist.tolist())
    while (probes := screening.request()) is not None:
        assert probes, "an empty request would never end"
        assert len(set(probes)) == len(probes), "a probe is requested twice"
        for probe in probes:
            assert probe.members == tuple(sorted(set(probe.members)))
            assert before.issuperset(probe.members), "a class came back"
        screening.receive([shows(probe) for probe in probes])
        made += probes
        alive = screening.shortlist.tolist()
        assert alive == sorted(set(alive)) and before.issuperset(alive)
        before = set(alive)
    assert screening.request() is None  # and it stays done
    return made


def cost(probes: list[Probe]) -> int:
    return sum(probe.evaluations for probe in probes)


def noisy(truth: Float64, seed: int, spread: float) -> Shows:
    """Errors of all classes for slopes; of a group, that of its best class."""

    def shows(probe: Probe) -> np.ndarray:
        rng = np.random.default_rng([seed, probe.draw, *probe.members])
        if probe.gradient:
            return (truth + rng.normal(0, spread, len(truth))).astype(np.float32)
        return np.float32(truth[list(probe.members)].min() + rng.normal(0, spread))  # type: ignore[return-value]

    return shows


def embeddings(classes: int, seed: int) -> Float64:
    """(K, 3), some of them equal."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(classes, 3))
    return points[rng.integers(0, classes, classes)]


def distances(classes: int, seed: int = 0) -> Float64:
    points = embeddings(classes, seed)
    found: Float64 = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return found


def begun(
    options: Gradient | Tree, classes: int, seed: int = 0
) -> GradientScreening | TreeScreening:
    if isinstance(options, Gradient):
        among, screen = distances(classes, seed), options.screen
        return GradientScreening(screen, among, cluster(among, screen.points(classes)))
    screen = options.screen
    return TreeScreening(screen, classes, grow(distances(classes, seed), screen.branches))


# ---- either screen -----------------------------------------------------------------------------


@FEWER
@given(st.one_of(GRADIENTS, TREES), CLASSES, SEEDS, st.sampled_from([0.0, 0.3, 30.0]))
def test_shortlist_and_cost_stay_within_the_declared_limits(
    options: Gradient | Tree, classes: int, seed: int, spread: float
) -> None:
    truth = np.random.default_rng(seed).normal(size=classes)
    screening = begun(options, classes, seed)
    probes = drive(screening, noisy(truth, seed, spread))
    most, left = options.screen.limits(classes)
    assert 1 <= len(screening.shortlist) <= left == min(classes, options.candidates)
    assert cost(probes) <= most
    assert all(0 <= probe.draw < options.draws for probe in probes)
    for leader in screening.shortlist:
        deficits = screening.deficits(int(leader))
        assert deficits.shape == (classes,) and np.isfinite(deficits).all()
        assert (deficits[screening.shortlist] == 0).all()
        assert (np.delete(deficits, screening.shortlist) > 0).all()


@FEWER
@given(st.one_of(GRADIENTS, TREES), CLASSES, SEEDS)
def test_the_best_class_survives_where_errors_are_far_apart(
    options: Gradient | Tree, classes: int, seed: int
) -> None:
    truth = np.random.default_rng(seed).permutation(classes).astype(np.float64)
    screening = begun(options, classes, seed)
    # noise a hundredth of the least gap
    drive(screening, noisy(truth, seed, 0.002))
    best = int(truth.argmin())
    assert best in screening.shortlist
    # the further deficits, the worse: of a group all count alike
    if isinstance(options, Gradient) and classes > options.candidates:
        assert set(screening.shortlist.tolist()) == set(np.argsort(truth)[: options.candidates])


@pytest.mark.parametrize(
    "options", [Gradient(), Gradient(candidates=1), Tree(), Tree(candidates=1, beam=7)], ids=repr
)
@pytest.mark.parametrize("classes", [2, 3, 6, 7, 40])
def test_classes_with_equal_errors_keep_their_order(options: Gradient | Tree, classes: int) -> None:
    screenings = [begun(options, classes) for _ in range(2)]
    for screening in screenings:
        drive(screening, noisy(np.ones(classes), 0, 0.0))
    assert np.array_equal(screenings[0].shortlist, screenings[1].shortlist)
    assert np.array_equal(
        screenings[0].deficits(screenings[0].shortlist[0]), screenings[1].deficits(0)
    )
    if isinstance(options, Gradient):
        assert screenings[0].shortlist.tolist() == list(range(min(classes, options.candidates)))


@pytest.mark.parametrize("options", [Gradient(candidates=9), Tree(candidates=9)], ids=repr)
@pytest.mark.parametrize("classes", [2, 9])
def test_no_more_classes_than_candidates_are_raced_at_once(
    options: Gradient | Tree, classes: int
) -> None:
    screening = begun(options, classes)
    assert screening.request() is None
    assert screening.shortlist.tolist() == list(range(classes))
    assert not screening.deficits(0).any()
    assert options.screen.limits(classes) == (0, classes)


@pytest.mark.parametrize("options", [Gradient(40), Tree(40)], ids=repr)
def test_a_thousand_classes_cost_less_than_one_evaluation_each(options: Gradient | Tree) -> None:
    truth = np.random.default_rng(1).uniform(1, 2, 1000)
    truth[777] = 0.0
    screening = begun(options, 1000)
    probes = drive(screening, noisy(truth, 1, 0.01))
    assert 777 in screening.shortlist
    assert cost(probes) < 1000
    assert 0 < cost(probes) <= options.screen.limits(1000)[0]


def test_a_budget_is_refused_because_the_race_does_not_know_the_cost_of_its_screen() -> None:
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


def begun_apart(options: Gradient, classes: int, seed: int) -> GradientScreening:
    """GradientScreening among classes no two of which are equal."""
    points = np.random.default_rng(seed).normal(size=(classes, 3))
    among = np.linalg.norm(points[:, None] - points[None], axis=-1)
    screen = options.screen
    return GradientScreening(screen, among, cluster(among, screen.points(classes)))


@FEWER
@given(GRADIENTS, CLASSES, SEEDS)
def test_rounds_cost_exactly_the_declared_limit(options: Gradient, classes: int, seed: int) -> None:
    rounds = begun_apart(options, classes, seed)
    probes = drive(rounds, noisy(np.random.default_rng(seed).normal(size=classes), seed, 1.0))
    assert (cost(probes), len(rounds.shortlist)) == options.screen.limits(classes)
    # slopes first, then probes at single classes
    kinds = [probe.gradient for probe in probes]
    assert kinds == sorted(kinds, reverse=True)
    assert all(len(probe.members) == 1 for probe in probes if not probe.gradient)
    assert {probe.draw for probe in probes} <= set(options.screen.draws)


def test_cost_grows_as_the_square_root_of_the_classes() -> None:
    options = Gradient(40)
    few, many = (options.screen.limits(classes)[0] for classes in (1000, 100_000))
    assert few < many < 11 * few


def test_each_round_probes_groups_of_the_shortlist() -> None:
    options = Gradient(draws=9, candidates=2, density=0.9, shrink=0.4, width=2.5)
    rounds = begun_apart(options, 16, 0)
    truth = np.arange(16.0)[::-1]  # the last class is the best one
    probes = drive(rounds, noisy(truth, 0, 0.0))
    # ⌈0.9·√16⌉ = 4 points of all; ⌈2.5·√16⌉ = 10 classes are left, one probe each
    groups = [probe.members for probe in probes]
    assert sorted(k for group in groups[:4] for k in group) == list(range(16))
    assert groups[4:] == [(k,) for k in range(6, 16)]
    assert rounds.shortlist.tolist() == [14, 15]


def test_gradient_probes_use_the_draws_at_the_given_place() -> None:
    # the draws of five places in time, from the first to the last
    ordered = order_in_time(9).tolist()
    for place, middle in ((0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)):
        assert Gradient(draws=9, place=place).screen.draws == (ordered[middle],)
    assert Gradient(draws=9, place=0.25, round_draws=3).screen.draws == tuple(ordered[1:4])
    assert Gradient(draws=9, place=1.0, round_draws=3).screen.draws == tuple(ordered[6:])
    # no draw is made twice
    assert sorted(Gradient(draws=2, round_draws=4).screen.draws) == [0, 1]


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
    among = distances(8, 4) + 1 - np.eye(8)
    shown = Expansions(among)
    rng = np.random.default_rng(0)
    said = rng.normal(size=(3, 8))
    shown.add(((2,), (0, 1), (3, 4, 5)), said)
    assert shown.errors()[2] == pytest.approx(said[0, 2], rel=1e-6)


def test_clusters_contain_neighbouring_classes() -> None:
    places = np.array([0.0, 10.0, 0.1, 10.2, 50.0, 0.3])
    among = np.abs(places[:, None] - places[None])
    assert cluster(among, 3) == ((0, 2, 5), (1, 3), (4,))
    assert cluster(among, 1) == (tuple(range(6)),)
    assert cluster(among, 6) == tuple((k,) for k in range(6))
    assert cluster(np.zeros((1, 1)), 4) == ((0,),)
    # equal classes are not parted
    assert sum(map(len, cluster(np.zeros((5, 5)), 3))) == 5


def test_deficit_is_that_of_the_last_round_in_which_a_class_took_part() -> None:
    seen = [np.array([3.0, 1.0, 2.0, 9.0]), np.array([0.5, 0.25, np.nan, np.nan])]
    deficits = last_differences(seen, np.array([1]), leader=1)
    assert deficits.tolist() == [0.25, 0.0, 1.0, 8.0]
    # a class that was better once and was screened out has a tiny deficit
    deficits = last_differences([np.array([1.0, 5.0])], np.array([1]), leader=1)
    assert 0 < deficits[0] < 1e-30 and deficits[1] == 0


# ---- tree --------------------------------------------------------------------------------------


@FEWER
@given(CLASSES, st.integers(2, 9), SEEDS)
def test_every_group_is_parted_into_its_branches(classes: int, branches: int, seed: int) -> None:
    opened = grow(distances(classes, seed), branches)
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
    probes = drive(begun(options, 8), noisy(truth, 0, 0.0))
    draws_of: dict[int, set[int]] = {}  # by the number of classes of a level's pair of groups
    levels = [probes[i : i + 4] for i in range(0, len(probes), 4)]  # two groups, two draws each
    for n, level in enumerate(levels):
        draws_of[n] = {probe.draw for probe in level}
        assert len({probe.members for probe in level}) == 2
        assert not any(probe.gradient for probe in level)
    assert [sorted(draws) for draws in draws_of.values()] == [
        [2 * n, 2 * n + 1] for n in range(len(levels))
    ]
    assert len(levels) > 1


def test_more_groups_than_candidates_are_never_left() -> None:
    # the beam would leave five classes
    options = Tree(draws=6, candidates=2, branches=6, beam=5)
    descent = begun(options, 6)
    drive(descent, noisy(np.array([4.0, 3.0, 3.0, 0.0, 0.0, 9.0]), 0, 1e-6))
    assert len(descent.shortlist) <= 2
    assert set(descent.shortlist.tolist()) <= {3, 4}


# ---- candidates of another model ---------------------------------------------------------------


def test_the_most_likely_classes_are_proposed_and_the_others_keep_their_order() -> None:
    likely = np.array([0.1, 0.7, 0.3, 0.7, -0.2, 0.2], dtype=np.float32)
    proposal = Proposal(likely, 3)
    assert proposal.request() is None
    assert proposal.shortlist.tolist() == [1, 2, 3]
    deficits = proposal.deficits(3)
    assert (deficits[[1, 2, 3]] == 0).all()
    assert np.argsort(deficits)[3:].tolist() == [5, 0, 4]
    assert (np.diff(np.sort(deficits)[2:]) > 100).all()  # errors are about 1
    everybody = Proposal(likely, 6)
    assert everybody.shortlist.tolist() == list(range(6)) and not everybody.deficits(0).any()
    tied = Proposal(np.zeros(4), 2)
    assert tied.shortlist.tolist() == [0, 1]


# ---- what an image costs at most ---------------------------------------------------------------


def test_the_cost_of_an_image_is_that_of_its_screen_and_of_a_race_to_the_end() -> None:
    one = PromptSet.from_templates([f"{k}" for k in range(10)], ["{}"])
    # 10 classes: 2 points of three evaluations; then 3 classes × 20 draws
    gradient = Gradient(20, candidates=3, width=1)
    assert most_evaluations(gradient, one) == 2 * 3 + 3 * 20
    # a screen probes at a mean however many prompts it is of; a race counts prompts
    two = PromptSet.from_templates([f"{k}" for k in range(10)], ["{}", "a {}"])
    assert most_evaluations(gradient, two) == 2 * 3 + 2 * 3 * 20
    assert most_evaluations(Propose(20, candidates=3, proposer="x"), two) == 2 * 3 * 20
    for draws in (10, 40):
        assert most_evaluations(Tree(draws), one) < 10 * draws + 60
