"""Sources that hang or refuse: a time limit of reading, and a Hub that is busy."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.fault_runs import row
from helpers.interrupted_runs import answers
from helpers.small_hub import COMMIT, TEST_FILE, Hub, fill, in_place_of_the_hub, parquet
from PIL import Image

import diffcls
from diffcls.data.dataset import Dataset, Item
from diffcls.data.read_timeout import MAX_TIMEOUTS_IN_A_ROW, SourceGoneError, with_read_timeout
from diffcls.evaluation import plan
from diffcls.scoring.prefetch import Prefetcher
from diffcls.support import hub as hub_access
from diffcls.support.errors import DataError
from diffcls.support.hub import HubBusyError, ask_hub
from diffcls.support.time_limit import TimeLimitError, paused, progress, within

# ---- a read that hangs ---------------------------------------------------------------------------


@pytest.fixture
def hangs() -> Iterator[Callable[[], Image.Image]]:
    """A read that does not end before the test does."""
    end = threading.Event()

    def wait() -> Image.Image:
        end.wait()
        raise OSError("ended")

    yield wait
    end.set()


def images(count: int, hanging: set[int], hang: Callable[[], Image.Image]) -> Dataset:
    def picture(i: int) -> Callable[[], Image.Image]:
        return hang if i in hanging else lambda: Image.new("RGB", (4, 4), (i, i, i))

    items = tuple(Item(f"test/{i}", i % 2, picture(i)) for i in range(count))
    return Dataset("mine", "test", ("a", "b"), items, "1")


def read(item: Item) -> Any:
    return np.asarray(item.open(), np.float32)


def read_all(dataset: Dataset) -> tuple[list[str], dict[str, str]]:
    reader = Prefetcher(iter(dataset.items), read, 3)
    whole, failed = [], {}
    try:
        while batch := reader.take():
            whole += [item.image_id for item in batch.items]
            failed |= {answer.image_id: str(answer.error) for answer in batch.failed}
    finally:
        reader.close()
    return whole, failed


def test_image_whose_read_hangs_fails_alone(
    hangs: Callable[[], Image.Image], report: Callable[..., None]
) -> None:
    hanging = {2, 3, 7}
    dataset = with_read_timeout(images(9, hanging, hangs), 0.1)
    began = time.monotonic()
    whole, failed = read_all(dataset)
    assert time.monotonic() - began < 5
    assert whole == [f"test/{i}" for i in range(9) if i not in hanging]
    assert failed.keys() == {f"test/{i}" for i in hanging}
    assert failed["test/2"] == (
        "image could not be read within --read-timeout 0.1 seconds: 'test/2'"
    )
    report(
        "Read that hangs",
        "an image",
        "recorded with its error after --read-timeout; the other images are scored",
        figure=f"{len(failed)} of 9 recorded, as injected",
    )


def test_source_that_hangs_altogether_stops_the_run(
    hangs: Callable[[], Image.Image], report: Callable[..., None]
) -> None:
    dataset = with_read_timeout(images(50, set(range(4, 50)), hangs), 0.05)
    reader = Prefetcher(iter(dataset.items), read, 3)
    failed = []
    with pytest.raises(SourceGoneError, match=r"images in a row could not be read.*rerun") as gone:
        while batch := reader.take():
            failed += batch.failed
    reader.close()
    assert gone.value.exit_status == 1  # the same command resumes
    assert len(failed) <= MAX_TIMEOUTS_IN_A_ROW
    report(
        "Read that hangs",
        "the whole source",
        f"clear stop after {MAX_TIMEOUTS_IN_A_ROW + 1} images in a row; the command resumes",
        figure=f"{len(failed)} images recorded before the stop",
    )


def test_read_in_time_is_the_read_itself(hangs: Callable[[], Image.Image]) -> None:
    plain = images(4, set(), hangs)
    limited = with_read_timeout(plain, 60)
    for one, other in zip(plain.items, limited.items, strict=True):
        assert one.open().tobytes() == other.open().tobytes()
        assert dataclasses.replace(other, open=one.open) == one
    assert with_read_timeout(plain, 0) is plain

    def broken() -> Image.Image:
        raise DataError("cannot read image")

    item = dataclasses.replace(plain.items[0], open=broken)
    with pytest.raises(DataError, match="cannot read image"):
        with_read_timeout(dataclasses.replace(plain, items=(item,)), 60).items[0].open()


@pytest.mark.faults
def test_run_records_an_image_whose_read_hangs_and_scores_the_rest(
    tmp_path: Path,
    tiny_pipeline: Callable[[str], Path],
    hangs: Callable[[], Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = plan.load_split

    def hanging(*arguments: Any) -> Dataset:
        whole = load(*arguments)
        items = list(whole.items)
        items[3] = dataclasses.replace(items[3], open=hangs)
        return dataclasses.replace(whole, items=tuple(items))

    monkeypatch.setattr(plan, "load_split", hanging)
    positions = tmp_path / "positions"
    positions.write_text("1\n3\n5\n8\n")
    (result,) = diffcls.run_evaluation(
        model=str(tiny_pipeline("v_prediction")),
        indices=str(positions),
        draws=4,
        threads=1,
        quiet=True,
        check_model=False,
        read_timeout=0.5,
        output_dir=tmp_path,
    )
    assert (result["n_asked"], result["n_scored"], result["status"]) == (4, 3, "complete")
    errors = {name: record.error for name, record in answers(tmp_path).items() if record.error}
    assert list(errors) == ["test/3"] and "--read-timeout 0.5" in str(errors["test/3"])
    assert row(tmp_path)["n_scored"] == "3"


def test_read_that_makes_progress_or_waits_as_asked_is_in_time() -> None:
    def slow() -> int:
        for _ in range(5):
            time.sleep(0.1)
            progress()
        with paused():
            time.sleep(0.7)
        return 7

    assert within(0.4, slow) == 7
    with pytest.raises(TimeLimitError):
        within(0.1, lambda: time.sleep(0.5))


def test_network_that_is_down_is_named_as_such() -> None:
    def down() -> Image.Image:
        raise TimeoutError("no response from https://host/a.tar (ConnectError)")

    dataset = with_read_timeout(images(1, {0}, down), 60)
    with pytest.raises(DataError) as caught:
        dataset.items[0].open()
    assert str(caught.value) == (
        "image could not be read (no response from https://host/a.tar (ConnectError)): 'test/0'"
    )


# ---- a Hub that is busy --------------------------------------------------------------------------


@pytest.fixture
def busy_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in for the Hub with a data set, and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    with in_place_of_the_hub(monkeypatch) as hub:
        hub.repositories["me/set"] = {TEST_FILE: parquet([5, 6, 7])}
        yield hub


def load() -> Dataset:
    from diffcls.data.load import load_dataset

    return load_dataset("hf:me/set")


@pytest.mark.parametrize("status", [429, pytest.param(503, marks=pytest.mark.faults)])
def test_hub_that_is_busy_is_waited_for_as_it_asks(
    status: int,
    busy_hub: Hub,
    capsys: pytest.CaptureFixture[str],
    report: Callable[..., None],
) -> None:
    busy_hub.refusals = [(status, {"Retry-After": "1"})]
    began = time.monotonic()
    assert len(load()) == 3
    waited = time.monotonic() - began
    assert waited >= 1
    notice = f"diffcls: the Hub answers {status}: waiting 1 s, as it asks\n"
    assert capsys.readouterr().err.startswith(notice)
    report(
        f"Hub answers {status}",
        "look-up of a revision",
        "waited for as Retry-After says; then a clear stop, and the command resumes",
        figure="a wait of 1 s, then loaded",
    )


@pytest.mark.faults
def test_download_that_the_hub_refuses_for_a_time_is_resumed(
    busy_hub: Hub, monkeypatch: pytest.MonkeyPatch, report: Callable[..., None]
) -> None:
    answer, refused = busy_hub.answer, 0

    def busy_at_first(path: str) -> Any:
        nonlocal refused
        if "/resolve/" in path and refused < 2:
            refused += 1
            return 429, {"Retry-After": "1"}, b""
        return answer(path)

    monkeypatch.setattr(busy_hub, "answer", busy_at_first)
    assert len(load()) == 3 and refused == 2
    report(
        "Hub answers 429",
        "download of a file",
        "waited for by huggingface_hub, as Retry-After says",
        figure="2 refusals, then loaded",
    )


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "3600"}, {"Retry-After": "soon"}])
def test_hub_that_stays_busy_is_a_clear_stop_that_resumes(
    headers: dict[str, str], busy_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_access, "BACKOFF_SECONDS", (0.01, 0.02))
    busy_hub.refusals = [(503, headers)] * 4
    with pytest.raises(HubBusyError) as stop:
        load()
    when = "in 3600 seconds" if headers.get("Retry-After") == "3600" else "later"
    assert str(stop.value).startswith(
        "the Hub refuses requests for the time being (503, service unavailable); "
        f"rerun the same command {when} to resume"
    )
    assert stop.value.exit_status == 1
    busy_hub.refusals = []
    assert len(load()) == 3


def test_copy_in_the_cache_serves_while_the_hub_is_busy(
    busy_hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "cache", "me/set", busy_hub.repositories["me/set"])
    busy_hub.refusals = [(429, {"Retry-After": "200"})]
    dataset = load()
    assert (len(dataset), dataset.revision) == (3, COMMIT)
    assert not capsys.readouterr().err


def test_wait_may_be_stated_as_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110, section 10.2.3."""
    import email.utils

    date = email.utils.formatdate(time.time() + 90, usegmt=True)

    class Refusal(Exception):
        response = SimpleNamespace(status_code=503, headers={"Retry-After": date})

    calls, waits = [], []

    def request() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise Refusal
        return "answer"

    monkeypatch.setattr(hub_access, "is_offline", lambda: False)
    monkeypatch.setattr(hub_access.time, "sleep", waits.append)
    assert ask_hub(request, lambda error: None) == "answer"
    assert len(waits) == 1 and 85 <= waits[0] <= 90
