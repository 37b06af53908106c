"""Workers without Ray: the channel to a stream, and the assignment of keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcls.support.errors import UsageError
from diffcls.support.workers.assignment import MAX_DEATHS, Assignment
from diffcls.support.workers.channel import MAX_AHEAD, Channel
from diffcls.support.workers.cluster import Cluster, check_address


def batches_of(size: int, sizes: list[int]):
    """A stream that squares keys in batches, and notes the sizes of these."""

    def stream(keys: Iterator[int]) -> Iterator[tuple[int, int]]:
        batch: list[int] = []
        for key in keys:
            batch.append(key)
            if len(batch) == size:
                sizes.append(len(batch))
                yield from ((k, k * k) for k in batch)
                batch = []
        if batch:
            sizes.append(len(batch))
            yield from ((k, k * k) for k in batch)

    return stream


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_channel_fills_batches_across_calls_and_ends_with_what_is_left(
    thread: ThreadPoolExecutor,
) -> None:
    sizes: list[int] = []
    channel = Channel(batches_of(4, sizes), thread.submit)
    assert channel.exchange([0, 1], last=False).starved
    first = channel.exchange([2, 3, 4], last=False)
    assert first.results == [(k, k * k) for k in range(4)]
    last = channel.exchange([], last=True)
    assert (last.results, last.starved, sizes) == ([(4, 16)], True, [4, 1])


def test_channel_starts_its_stream_again_for_keys_that_come_after_the_last(
    thread: ThreadPoolExecutor,
) -> None:
    channel = Channel(batches_of(4, []), thread.submit)
    assert channel.exchange([3], last=True).results == [(3, 9)]
    assert channel.exchange([5], last=True).results == [(5, 25)]
    assert channel.exchange([], last=True).results == []


def test_channel_has_room_for_more_keys_the_faster_they_are_taken(
    thread: ThreadPoolExecutor,
) -> None:
    channel = Channel(batches_of(1, []), thread.submit)
    key, rooms = 0, [1]
    while rooms[-1] < MAX_AHEAD and len(rooms) < 40:
        reply = channel.exchange(range(key, key + rooms[-1]), last=False)
        key += rooms[-1]
        rooms.append(reply.room)
    channel.exchange([], last=True)
    assert rooms[-1] == MAX_AHEAD


def test_channel_raises_what_its_stream_raised(thread: ThreadPoolExecutor) -> None:
    def stream(keys: Iterator[int]) -> Iterator[tuple[int, int]]:
        for key in keys:
            yield key, 1 // key

    channel = Channel(stream, thread.submit)
    with pytest.raises(ZeroDivisionError):
        channel.exchange([0], last=True)


def test_channel_waits_for_a_slow_stream_instead_of_answering_empty(
    thread: ThreadPoolExecutor,
) -> None:
    go = threading.Event()

    def stream(keys: Iterator[int]) -> Iterator[tuple[int, int]]:
        for key in keys:
            go.wait(10)
            yield key, key

    threading.Timer(0.3, go.set).start()
    began = time.monotonic()
    assert Channel(stream, thread.submit).exchange([7], last=True).results == [(7, 7)]
    assert time.monotonic() - began > 0.25


def test_no_worker_gets_more_than_its_share_of_what_is_left() -> None:
    keys = Assignment(range(40))
    assert keys.take(1, 100, workers=2) == (list(range(20)), True)
    assert keys.take(2, 100, workers=2) == (list(range(20, 40)), True)


def test_keys_of_a_dead_worker_go_to_others_first() -> None:
    keys = Assignment(range(100))
    assert keys.take(1, 3, workers=2)[0] == [0, 1, 2]
    assert keys.died(1) == []
    assert keys.take(2, 4, workers=2)[0] == [0, 1, 2, 3]


def test_a_key_that_kills_is_told_from_those_in_flight_beside_it() -> None:
    keys, finished, deaths = Assignment(range(10)), set(), 0
    given_up: list[int] = []
    while keys:
        taken, _ = keys.take(deaths, 4, workers=1)
        for key in taken:
            if key == 2:
                given_up += keys.died(deaths)
                deaths += 1
                break
            keys.done(deaths, key)
            finished.add(key)
    assert (given_up, deaths) == ([2], MAX_DEATHS)
    assert finished == set(range(10)) - {2}


def test_deaths_of_preempted_nodes_do_not_count_against_keys() -> None:
    keys = Assignment(range(2))
    for worker in range(10):
        keys.take(worker, 2, workers=1)
        assert keys.died(worker, counted=False) == []


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 5))
def test_every_key_is_finished_once_whatever_workers_die(
    seed: int, count: int, workers: int
) -> None:
    random = Random(seed)
    keys, taken = Assignment(range(count)), {w: [] for w in range(workers)}
    finished: list[int] = []
    while keys:
        worker = random.randrange(workers)
        taken[worker] += keys.take(worker, random.randrange(9), workers)[0]
        if random.random() < 0.1:
            finished += keys.died(worker)
        else:
            for key in taken[worker]:
                keys.done(worker, key)
            finished += taken[worker]
        taken[worker] = []
    assert sorted(finished) == list(range(count))


@pytest.mark.parametrize("cpus", [1, 2, 64])
@pytest.mark.parametrize("workers", [1, 2, 3, 1000])
def test_workers_never_reserve_all_cpus_of_a_local_cluster(cpus: int, workers: int) -> None:
    share = Cluster(True, cpus, 0).resources(workers, needs_gpu=False)["num_cpus"]
    assert 0 < share * workers < cpus


def test_more_workers_than_gpus_share_them_on_one_machine_only() -> None:
    assert Cluster(True, 8, 2).resources(4, needs_gpu=True)["num_gpus"] == 0.5
    assert Cluster(True, 8, 2).resources(2, needs_gpu=True)["num_gpus"] == 1
    assert Cluster(False, 8, 2).resources(4, needs_gpu=True)["num_gpus"] == 1


@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:", ":6379", "a b:1", "h:x"])
def test_addresses_of_no_cluster_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="--address"):
        check_address(address)


@pytest.mark.parametrize("address", [None, "auto", "head:6379", "10.0.0.1:6379", "[::1]:6379"])
def test_addresses_of_clusters_are_accepted(address: str | None) -> None:
    check_address(address)
