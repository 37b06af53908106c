"""What was learned is learned once."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from diffcls.errors import RecordError
from diffcls.fits import Arrays, fitted


class Maker:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> Arrays:
        self.asked += 1
        return {"weights": np.arange(6.0).reshape(2, 3), "name": np.array("mid_block")}


def test_same_definition_is_made_once(tmp_path: Path) -> None:
    maker = Maker()
    first, second = (fitted(tmp_path, "probe", {"seed": 0}, maker) for _ in range(2))
    assert maker.asked == 1
    assert np.array_equal(first["weights"], second["weights"])
    assert str(second["name"]) == "mid_block" and set(second) == {"weights", "name"}


def test_another_definition_is_made_anew(tmp_path: Path) -> None:
    maker = Maker()
    for defined_by in ({"seed": 0}, {"seed": 1}, {"seed": 0, "more": None}):
        fitted(tmp_path, "probe", defined_by, maker)
    fitted(tmp_path, "other", {"seed": 0}, maker)
    assert maker.asked == 4 == len(list(tmp_path.rglob("*.npz")))


def test_order_of_the_definition_does_not_count(tmp_path: Path) -> None:
    maker = Maker()
    fitted(tmp_path, "probe", {"a": 1, "b": 2}, maker)
    fitted(tmp_path, "probe", {"b": 2, "a": 1}, maker)
    assert maker.asked == 1


def test_damaged_file_is_named(tmp_path: Path) -> None:
    fitted(tmp_path, "probe", {"seed": 0}, Maker())
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(b"nothing")
    with pytest.raises(RecordError, match=path.name):
        fitted(tmp_path, "probe", {"seed": 0}, Maker())


def test_of_several_that_ask_at_once_one_makes_it(tmp_path: Path) -> None:
    maker = Maker()
    ask = [threading.Thread(target=fitted, args=(tmp_path, "probe", {}, maker)) for _ in range(8)]
    for thread in ask:
        thread.start()
    for thread in ask:
        thread.join()
    assert maker.asked == 1


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Arrays:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fitted(tmp_path, "probe", {}, fail)
    assert not list(tmp_path.rglob("*.npz"))
    maker = Maker()
    fitted(tmp_path, "probe", {}, maker)
    assert maker.asked == 1
