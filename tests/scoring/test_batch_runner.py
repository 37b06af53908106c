"""Batches of many images: full, read ahead, and halved where memory ends with nothing lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import to_image
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring import batch_runner
from diffcls.scoring.batch_runner import Queues, is_out_of_memory, largest_worthwhile
from diffcls.scoring.prefetch import Reader
from diffcls.search.error_table import Search
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.gradient import Gradient
from diffcls.search.halving import Halving
from diffcls.search.paper import Paper
from diffcls.search.racing import Racing
from diffcls.search.screening import Look
from diffcls.search.tree import Tree
from diffcls.support.errors import DataError, ModelError

K = 8
RNG = np.random.default_rng(4)
MEANS = {f"class {k}": torch.tensor(RNG.uniform(-0.9, 0.9, (3, 4, 4))).float() for k in range(K)}


class Small(GaussianDenoiser):
    """A device with memory for so many rows."""

    rows = 5
    asked = 0

    def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
        self.asked += 1
        if len(x_t) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")
        return super().predict(x_t, index, cond)


class Ahead(GaussianDenoiser):
    """Notes how many rows each forward had."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked = 0

    def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
        self.asked += 1
        return super().predict(x_t, index, cond)


def items(count: int) -> list[Item]:
    def picture(i: int) -> Image.Image:
        mean = MEANS[f"class {i % K}"].numpy()
        return to_image(mean + np.random.default_rng(i).normal(0, 0.2, mean.shape))

    return [Item(f"test/{i}", i % K, lambda i=i: picture(i)) for i in range(count)]  # type: ignore[misc]


def method(kind: type[GaussianDenoiser], search: Search, batch_size: int = 32) -> DiffusionMethod:
    prompts = PromptSet.from_templates(list(MEANS), ["{}"])
    return DiffusionMethod(kind(MEANS, 0.2), prompts, search, batch_size=batch_size, encode_batch=4)


@pytest.mark.parametrize("search", [Exhaustive(6), Racing(12), Gradient(12, candidates=3)])
def test_out_of_memory_halves_the_batch_and_loses_nothing(
    search: Search, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        small = method(Small, search)
        found = {a.image_id: a for a in small.classify(items(13))}
    whole = {a.image_id: a for a in method(GaussianDenoiser, search, 4).classify(items(13))}
    assert small.batch_size == 4
    assert [r.getMessage()[-2:] for r in caplog.records] == ["16", " 8", " 4"]
    assert found.keys() == whole.keys() and len(found) == 13
    for image_id, answer in found.items():
        assert np.array_equal(answer.scores, whole[image_id].scores)
        assert answer.evaluations == whole[image_id].evaluations


def test_no_memory_for_one_row_is_said() -> None:
    class None_(Small):
        rows = 0

    with pytest.raises(ModelError, match="out of memory for a single evaluation"):
        list(method(None_, Racing(5)).classify(items(2)))


def test_other_errors_are_not_taken_for_memory() -> None:
    class Broken(GaussianDenoiser):
        def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(method(Broken, Racing(5)).classify(items(2)))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))


@pytest.mark.parametrize("search", [Exhaustive(6), Racing(12), Gradient(12, candidates=3)])
def test_working_a_batch_ahead_changes_no_answer(search: Search) -> None:
    plain, ahead = method(GaussianDenoiser, search), method(GaussianDenoiser, search)
    ahead._runner.overlaps = True
    one = {a.image_id: a for a in plain.classify(items(29))}
    two = {a.image_id: a for a in ahead.classify(items(29))}
    assert one.keys() == two.keys()
    for image_id, answer in one.items():
        assert np.array_equal(answer.scores, two[image_id].scores)
        assert answer.evaluations == two[image_id].evaluations


def test_batches_are_full_until_images_run_out() -> None:
    model = Ahead(MEANS, 0.2)
    prompts = PromptSet.from_templates(list(MEANS), ["{}"])
    racing = DiffusionMethod(model, prompts, Racing(12), batch_size=16, encode_batch=4)
    before = model.asked
    total = sum(a.evaluations for a in racing.classify(items(200)))
    forwards = model.asked - before
    # all but the last few, when no further image is there to fill them
    assert total / (16 * forwards) > 0.97


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize(
    ("search", "options"),
    [
        (Racing(12), {}),
        (Racing(12), {"aggregate": "prompts"}),
        (Racing(12), {"vote": "rank"}),
        (Racing(12, budget=40), {}),
        (Halving(12, start=2), {}),
        (Paper((3, 12), (4, 1)), {}),
        (Gradient(12, candidates=5), {}),
        (Tree(12, candidates=5), {}),
    ],
)
def test_free_rows_work_on_what_comes_next_and_change_no_answer(
    search: Search,
    options: dict[str, str],
    overlaps: bool,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forwards, found = [], []
    for foresee in (batch_runner.foresee, lambda batch, free: []):
        monkeypatch.setattr(batch_runner, "foresee", foresee)
        model = Ahead({**MEANS, **{f"a {name}": 0.9 * mean for name, mean in MEANS.items()}}, 0.2)
        prompts = PromptSet.from_templates(list(MEANS), ["{}", "a {}"])
        built = DiffusionMethod(model, prompts, search, batch_size=64, encode_batch=4, **options)
        built._runner.overlaps = overlaps
        found.append({a.image_id: a for a in built.classify(items(count))})
        forwards.append(model.asked)
    mine, plain = found
    for image_id, answer in plain.items():
        assert np.array_equal(mine[image_id].scores, answer.scores)
        assert mine[image_id].evaluations == answer.evaluations
    assert forwards[0] <= forwards[1]
    if count == 1 and "vote" not in options:  # by ranks the race is over at its first look
        assert forwards[0] < forwards[1]


def test_candidates_of_an_image_and_the_empty_prompt_are_foreseen_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for foresee in (batch_runner.foresee, lambda batch, free: []):
        monkeypatch.setattr(batch_runner, "foresee", foresee)
        prompts = PromptSet.from_templates(list(MEANS), ["{}"], asked=3)
        means = {**MEANS, "": torch.zeros(3, 4, 4)}
        built = DiffusionMethod(GaussianDenoiser(means, 0.2), prompts, Racing(12), encode_batch=4)
        asked = [replace(item, candidates=(item.label, 2, 5)) for item in items(2)]
        found.append([(a.scores.tolist(), a.evaluations) for a in built.classify(asked)])
    assert found[0] == found[1] and len(found[0]) == 2


def test_what_was_foreseen_in_vain_is_foreseen_again() -> None:
    small, fits = method(Small, Racing(12)), method(Ahead, Racing(12), 4)
    (mine,) = small.classify(items(1))
    (theirs,) = fits.classify(items(1))
    assert np.array_equal(mine.scores, theirs.scores) and mine.evaluations == theirs.evaluations
    tried = 3  # at 32, 16 and 8 rows there was no memory
    assert small.denoiser.asked - tried == fits.denoiser.asked  # type: ignore[attr-defined]


def test_what_nobody_asked_for_may_be_not_finite() -> None:
    class Late(GaussianDenoiser):
        """Overflows at the last draw, which a clear image does not need."""

        dtype = torch.float16
        last = -1

        def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
            out = super().predict(x_t, index, cond)
            return torch.where((index == self.last).view(-1, 1, 1, 1), torch.nan, out)

        def float32(self) -> Any:
            raise AssertionError("a whole network in single precision, for what nobody asked for")

    built = method(Late, Racing(12), batch_size=128)
    built.denoiser.last = int(built.plan.indices[-1])  # type: ignore[attr-defined]
    (answer,) = built.classify(items(1))
    assert answer.error is None and answer.ranking[0] == 0 and answer.evaluations < K * 12


# ---- batch size --------------------------------------------------------------------------------


def device(memory: int, saturates_at: int) -> Callable[[int], float]:
    """Time of a batch on a device that is no faster beyond so many rows, and ends at `memory`."""

    def seconds(rows: int) -> float:
        if rows > memory:
            raise torch.OutOfMemoryError("out of memory")
        return max(rows, saturates_at) / 1000

    return seconds


@pytest.mark.parametrize(
    ("memory", "saturates_at", "expected"),
    [
        (10_000, 64, 64),
        (40, 10_000, 32),
        (10_000, 1, 16),
        (10_000, 10_000, 1024),
        (11, 10_000, 8),
        (1, 10_000, 1),
    ],
)
def test_batch_grows_while_it_pays_and_memory_lasts(
    memory: int, saturates_at: int, expected: int
) -> None:
    assert largest_worthwhile(device(memory, saturates_at)) == expected


def test_a_batch_that_never_fits_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        largest_worthwhile(device(0, 64))


# ---- queues ------------------------------------------------------------------------------------


class Asks:
    """An image that wants what it is given."""

    def __init__(self, pairs: list[list[int]], looks: list[Any]) -> None:
        self.wanted = np.array(pairs, np.int64).reshape(-1, 2), looks

    def ask(self) -> Any:
        return self.wanted


def test_a_batch_is_of_one_kind_and_in_order() -> None:
    queues = Queues()
    one, other = Asks([[0, draw] for draw in range(3)], []), Asks([[4, 7], [5, 7]], [])
    looks: list[Any] = [(None, i, Look((0,), i, slopes=i % 2 == 0)) for i in range(14)]
    for image in (one, Asks([], looks), other):
        queues.add(image)  # type: ignore[arg-type]
    assert len(queues) == 19 and queues.longest() == 7
    kind, batch = queues.take(4)
    assert kind == "points" or kind == "slopes"
    assert [look.slopes for _, _, look in batch] == [kind == "slopes"] * 4
    assert [place for _, place, _ in batch] == sorted(place for _, place, _ in batch)
    queues.put_back(kind, batch)
    again = [queues.take(100) for _ in range(3)]
    assert {kind for kind, _ in again} == {"evaluations", "points", "slopes"}
    requests = [(one, 0, 0), (one, 0, 1), (one, 0, 2), (other, 4, 7), (other, 5, 7)]
    assert dict(again)["evaluations"] == requests
    assert dict(again)[kind][:4] == batch
    assert not queues
    queues.put_back("evaluations", requests[:4])
    queues.add(other)  # type: ignore[arg-type]
    assert queues.take(3) == ("evaluations", requests[:3])
    assert queues.take(9) == ("evaluations", [requests[3], *requests[3:]])


# ---- reading ahead -----------------------------------------------------------------------------


def pixels(item: Item) -> Any:
    if item.label == 1:
        raise DataError(f"cannot read {item.image_id}")
    return np.full((3, 2, 2), item.label, np.float32)


def stream(count: int, taken: list[str], bad: Callable[[int], bool] = lambda i: False) -> Iterator:
    for i in range(count):
        taken.append(f"test/{i}")
        yield Item(f"test/{i}", int(bad(i)), lambda: None)


def test_reader_gives_all_images_in_order_and_says_what_it_could_not_read() -> None:
    reader = Reader(stream(11, [], lambda i: i % 3 == 0), pixels, 3)
    batches = []
    while batch := reader.take():
        batches.append(batch)
    reader.close()
    read = [item.image_id for batch in batches for item in batch.items]
    failed = [answer.image_id for batch in batches for answer in batch.failed]
    assert read == [f"test/{i}" for i in range(11) if i % 3]
    assert failed == [f"test/{i}" for i in range(0, 11, 3)]
    assert all(len(batch.items) <= 3 for batch in batches)
    assert not reader.take()


def test_reader_is_one_batch_ahead_and_no_further() -> None:
    taken: list[str] = []
    reader = Reader(stream(100, taken), pixels, 4)
    reader.take()
    reader.close()  # waits for what is under way
    assert len(taken) <= 8


def test_reader_reads_while_the_batch_before_is_scored() -> None:
    reading = threading.Event()

    def slow(item: Item) -> Any:
        if item.image_id == "test/2":
            reading.set()
        return pixels(item)

    reader = Reader(stream(4, []), slow, 2)
    first = reader.take()
    # nobody has asked for the second batch
    assert reading.wait(timeout=10) and len(first.items) == 2
    reader.close()


def test_an_error_of_the_stream_reaches_who_asks() -> None:
    def broken() -> Iterator[Item]:
        yield Item("test/0", 0, lambda: None)
        raise KeyError("the data set is gone")

    reader = Reader(broken(), pixels, 1)
    assert reader.take().items
    with pytest.raises(KeyError, match="the data set is gone"):
        reader.take()
    reader.close()
