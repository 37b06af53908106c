"""Where in time the draws lie: as a density says, and evenly where nothing else was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffcls.classifiers.search_options import build_allocation
from diffcls.data import catalog
from diffcls.diffusion.draws import nested_order
from diffcls.diffusion.learned_weighting import KNOTS
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.diffusion.timestep_allocation import EVEN, FOLDER, allocate, names, read_allocation
from diffcls.evaluation.options import EvaluationOptions, read_options
from diffcls.evaluation.plan import check_names
from diffcls.models.denoiser import ModelCard
from diffcls.support.errors import UsageError
from diffcls.training.recipe_table import RECIPES
from tools.bundled_recipes import row_of

pytestmark = pytest.mark.filterwarnings("error")

WEIGHTS = FOLDER.parent / "weights"
CARDS = {
    path.parent.name: json.loads(path.read_text(encoding="utf-8"))
    for path in WEIGHTS.glob("*/diffcls.json")
    if path.parent.name in RECIPES
}
LEARNED = [name for name in names() if name != EVEN]
STEEP = "learned@made/validation:-3=1.5,-1=0,1=-2,3=0.5"
knots = st.lists(
    st.tuples(st.integers(-60, 60), st.floats(-8, 8)),
    min_size=1,
    max_size=7,
    unique_by=lambda knot: knot[0],
).map(lambda made: "learned@made:" + ",".join(f"{a / 10}={b}" for a, b in sorted(made)))


def schedule(length: int = 1000, steepness: float = 8.0) -> NoiseSchedule:
    """The log of the signal-to-noise ratio falls on a line, `steepness` on either side of 0."""
    log_snr = steepness - 2 * steepness * (np.arange(length) + 0.5) / length
    alpha = np.sqrt(1 / (1 + np.exp(-log_snr)))
    return NoiseSchedule(alpha, np.sqrt(1 - alpha**2), np.arange(length, dtype=np.float64))


def distribution(allocation: str, s: NoiseSchedule) -> NDArray[np.float64]:
    """(T,) Q: the share of the density at each index or before it."""
    place, height = np.array(
        [knot.split("=") for knot in allocation.partition(":")[2].split(",")], dtype=np.float64
    ).T
    weight = np.exp(np.interp(np.log(s.alpha**2 / s.sigma**2), place, height))
    share: NDArray[np.float64] = np.cumsum(weight / weight.sum())
    return share


def shares(indices: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """(T,) the share of draws at each index or before it."""
    found: NDArray[np.float64] = np.bincount(indices, minlength=length).cumsum() / len(indices)
    return found


# ---- where the draws go ------------------------------------------------------------------------


@given(st.integers(2, 1200), st.floats(-30, 30), st.integers(1, 5))
def test_even_draws_and_those_of_a_density_without_a_slope_stay_where_they_are(
    length: int, height: float, count: int
) -> None:
    s = schedule(length)
    flat = "learned@made:" + ",".join(f"{k}={height}" for k in range(count))
    every = np.arange(length)
    for allocation in (EVEN, flat):
        assert np.array_equal(allocate(every, allocation, s), every)


@given(knots, st.integers(2, 600))
def test_draws_at_every_index_are_distributed_as_the_density(allocation: str, length: int) -> None:
    s = schedule(length)
    found = shares(allocate(np.arange(length), allocation, s), length)
    # each of the T draws stands for 1/T of the density, at its middle
    assert np.abs(found - distribution(allocation, s)).max() <= 0.5 / length + 1e-9


@pytest.mark.parametrize("slope", [0.1, 0.4, -0.3])
def test_quantiles_of_an_exponential_density_are_known(slope: float) -> None:
    # with λ falling on a line the density is exp(−c·t), its quantile −log(1 − u(1 − e^{−c}))/c
    s, c = schedule(4000), 16 * slope
    u = (np.arange(4000) + 0.5) / 4000
    quantile = -np.log(1 - u * (1 - np.exp(-c))) / c
    found = (
        allocate(np.arange(4000), f"learned@made:-9={-9 * slope},9={9 * slope}", s) + 0.5
    ) / 4000
    assert np.abs(found - quantile).max() <= 1 / 4000


@given(knots, st.integers(1, 130))
def test_every_prefix_is_spread_over_the_density_as_even_draws_are_over_time(
    allocation: str, n: int
) -> None:
    length = 500
    s, even = schedule(length), nested_order(length, 130)
    far = np.abs(shares(even[:n], length) - np.arange(1, length + 1) / length)
    far_before = np.abs(shares(even[:n], length) - np.arange(length) / length)
    moved = allocate(even, allocation, s)[:n]
    gap = np.abs(shares(moved, length) - distribution(allocation, s)).max()
    assert gap <= max(far.max(), far_before.max()) + 0.5 / length + 1e-9


@given(knots, st.integers(2, 400), st.integers(1, 500))
def test_draws_keep_their_order_in_time_and_stay_within_the_schedule(
    allocation: str, length: int, draws: int
) -> None:
    even = nested_order(length, draws)
    moved = allocate(even, allocation, schedule(length))
    assert moved.dtype == even.dtype and moved.shape == even.shape
    assert 0 <= moved.min() <= moved.max() < length
    assert (np.diff(moved[np.argsort(even, kind="stable")]) >= 0).all()


def test_level_without_signal_or_noise_is_as_the_last_one_with_some() -> None:
    some = schedule()
    alpha, sigma = some.alpha.copy(), some.sigma.copy()
    alpha[-1], sigma[0] = 0.0, 0.0
    bare = NoiseSchedule(alpha, sigma, some.timesteps)
    every = np.arange(1000)
    # much of the density lies at that end, and none of it is lost
    found = allocate(every, "learned@made:-3=6,3=0", bare)
    assert np.array_equal(found, allocate(every, "learned@made:-3=6,3=0", some))
    assert found[-1] == 999


@pytest.mark.parametrize("name", LEARNED)
def test_more_draws_lie_where_the_learned_weight_is_more(name: str) -> None:
    s, allocation = schedule(), read_allocation(name)
    share = np.diff(distribution(allocation, s), prepend=0.0)
    moved = allocate(np.arange(1000), allocation, s)
    more = share > 1.1 / 1000
    assert 0 < more.sum() < 1000
    assert more[moved].sum() > 1.1 * more.sum() - 10


@pytest.mark.parametrize("allocation", ["", "cifar10", "v", "Even"])
def test_what_is_no_density_is_refused_and_not_taken_for_even(allocation: str) -> None:
    with pytest.raises(UsageError, match="unknown allocation"):
        allocate(np.arange(10), allocation, schedule(10))


# ---- names and files ---------------------------------------------------------------------------


def test_names_are_those_of_the_files() -> None:
    assert names() == [EVEN, *sorted(p.name.removesuffix(".json") for p in FOLDER.iterdir())]
    assert len(set(names())) == len(names()) > 1


@pytest.mark.parametrize("name", LEARNED)
def test_name_file_and_text_are_the_same_allocation(name: str, tmp_path: Path) -> None:
    allocation = read_allocation(name)
    mine = tmp_path / "mine.json"
    mine.write_bytes((FOLDER / f"{name}.json").read_bytes())
    learned_on = f"learned@{name.partition('-')[0]}/validation"
    assert allocation.startswith(f"{learned_on}:")
    assert read_allocation(str(mine)) == read_allocation(allocation) == allocation
    assert read_options({"allocation": name}).allocation == allocation
    assert f"allocation={learned_on}" in read_options({"allocation": name}).setting()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("cifar", "unknown allocation: 'cifar'.*did you mean 'cifar10'"),
        ("evn", "did you mean 'even'"),
        ("../allocations/cifar10", "unknown allocation"),
        ("none.json", "cannot read a weighting"),
        ("learned@made:1=2,0=1", "cannot read a learned weighting"),
        ("learned@made", "cannot read a learned weighting"),
    ],
)
def test_what_cannot_be_read_is_refused(given: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_allocation(given)
    with pytest.raises(UsageError, match=said):
        read_options({"allocation": given})


@pytest.mark.parametrize("name", LEARNED)
def test_file_is_what_learning_on_validation_images_and_even_draws_writes(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    assert text == json.dumps(stored, indent=2) + "\n"
    assert list(stored) == ["learned_on", "knots"]
    dataset = name.partition("-")[0]  # a recipe's name begins with that of its data set
    assert stored["learned_on"] == f"{dataset}/validation"
    pairs = [knot.split("=") for knot in stored["knots"].split(",")]
    assert all(f"{float(part):.4g}" == part for pair in pairs for part in pair)
    place, height = np.array(pairs, dtype=np.float64).T
    assert abs(height.mean()) < 1e-3 < np.ptp(height)  # its size is the posterior's temperature
    # the knots are quantiles of the levels that were drawn: of these models, on so many even draws
    from tools.learn_allocations import DRAWS

    config = json.loads((WEIGHTS / dataset / "scheduler/scheduler_config.json").read_text())
    s = NoiseSchedule.from_diffusers(config)
    drawn = np.log(s.snr)[nested_order(len(s), DRAWS)]
    expected = np.quantile(drawn, np.linspace(0, 1, KNOTS))
    assert place == pytest.approx([float(f"{p:.4g}") for p in expected], abs=0)


# ---- whose draws they are ----------------------------------------------------------------------

CARD = ModelCard("made", "0", allocation=STEEP)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({}, STEEP),
        ({"search": "exhaustive"}, STEEP),
        ({"weighting": "uniform"}, STEEP),
        ({"allocation": EVEN}, EVEN),
        ({"allocation": "cifar10"}, read_allocation("cifar10")),
        # what was published, and weights, are for time as it is
        ({"search": "paper"}, EVEN),
        ({"stages": ("2:2", "4:1")}, EVEN),
        ({"n_samples": (2, 4), "to_keep": (2, 1), "allocation": EVEN}, EVEN),
        ({"weighting": "v"}, EVEN),
        ({"weighting": STEEP}, EVEN),
        # unless one asks for both
        ({"weighting": "v", "allocation": STEEP}, STEEP),
    ],
    ids=str,
)
def test_allocation_is_the_one_asked_for_else_the_models_else_even(
    wishes: dict[str, Any], expected: str
) -> None:
    options = read_options(wishes)
    assert build_allocation(options, CARD) == expected
    plain = ModelCard("made", "0")
    assert build_allocation(options, plain) == (expected if options.allocation else EVEN)


@pytest.mark.parametrize(
    "wishes", [{"search": "paper"}, {"stages": ("2:2", "4:1")}, {"n_trials": 2}], ids=str
)
def test_published_stages_refuse_another_allocation_before_anything_is_loaded(
    wishes: dict[str, Any],
) -> None:
    check_names(read_options({**wishes, "allocation": EVEN}))
    options = read_options({**wishes, "allocation": "cifar10"})
    for refused in (lambda: check_names(options), lambda: build_allocation(options, CARD)):
        with pytest.raises(UsageError, match=r"own timesteps: '--allocation learned@cifar10"):
            refused()


def test_nothing_is_asked_for_by_default() -> None:
    assert EvaluationOptions().allocation is None
    assert ModelCard("made", "0").allocation == EVEN


@pytest.mark.parametrize("name", sorted(CARDS))
def test_bundled_model_draws_where_another_data_set_says(name: str) -> None:
    card = CARDS[name]
    recipe = RECIPES[row_of(name)]
    assert card["allocation"] == recipe.allocation == card["recipe"].get("allocation", "cifar10")
    assert card["allocation"] in LEARNED
    learned_on = read_allocation(card["allocation"]).removeprefix("learned@").partition(":")[0]
    dataset, split = learned_on.split("/")
    assert split == "validation"
    seen = {name, card.get("measured_on", name), *card["trained_on"]}
    assert dataset not in {own.partition("/")[0] for own in seen}
    assert catalog.find(dataset)


def test_every_bundled_diffusion_model_has_a_card_here() -> None:
    assert set(CARDS) == {name.partition("-")[0] for name in RECIPES}
