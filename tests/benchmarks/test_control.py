"""Control benchmark: agreement of edges, margins of attributes, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.accuracy import control
from benchmarks.core.tables import record_environment
from diffcls.data.load import load_dataset
from diffcls.data.scenes.tasks import SINGLE_OBJECTS
from diffcls.runs.record import Record
from diffcls.training.stored_images import tensor_of


def test_images_agree_with_their_own_edges_and_not_with_those_of_others() -> None:
    pytest.importorskip("cv2")
    data = load_dataset(control.DATASET, "validation")
    images, _ = tensor_of(type(data)(**{**vars(data), "items": data.items[:20]}), 32)
    edges = control.maps_of(images)
    assert (control.agreements(images, edges) == 1).all()
    assert control.agreements(images, edges.roll(1, dims=0)).mean() < 0.5
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 0.02
    assert control.agreements((images + noise).clamp(-1, 1), edges).mean() > 0.95


def record(**scores: float) -> Record:
    names = list(SINGLE_OBJECTS)
    values = [scores.get(name.replace(" ", "_"), -9.0) for name in names]
    order = tuple(int(k) for k in np.argsort(values)[::-1])
    label = names.index("a small red circle")
    return Record("f", "test/0", label, order, tuple(values), 1, 0.0)


def test_a_margin_is_to_the_best_class_that_differs_in_one_attribute_alone() -> None:
    one = record(
        a_small_red_circle=-1.0,
        a_large_red_circle=-1.5,
        a_small_blue_circle=-2.0,
        a_small_red_cross=-0.5,
        a_large_blue_cross=0.0,  # differs in all of them
    )
    margins = control._margins({"test/0": one})
    assert {k: v.tolist() for k, v in margins.items()} == {
        "colour": [1.0],
        "shape": [-0.5],
        "size": [0.5],
    }
    said, shown = control._predicted(one)
    assert [control._is_right(said, shown, p) for p in ("all", "colour", "shape")] == [False] * 3


def rows(f1: float) -> list[dict[str, Any]]:
    def one(measure: str, what: str, value: float) -> dict[str, Any]:
        draws = None if measure == control.F1 else control.DRAWS[-1]
        limits = {"ci_low": value, "ci_high": value, "draws": draws}
        return {"measure": measure, "what": what, "n": 9, "value": value, "command": "c", **limits}

    table = [one(control.F1, "samples given the edges", f1)]
    table.append(one(control.ACCURACY, "plain, all", 1.0))
    for what, margin in (("plain", 0.4), ("given the edges", 0.1)):
        table += [one(control.MARGIN, f"{what}, {part}", margin) for part in control.PARTS]
    return table


@pytest.mark.parametrize(("f1", "verdict"), [(0.85, "met"), (0.75, "not met")])
def test_the_page_says_whether_the_target_is_met(f1: float, verdict: str, tmp_path: Path) -> None:
    record_environment(tmp_path, control.NAME)
    text = "\n".join(control.page(rows(f1), tmp_path))
    assert f"F1 of {f1:.3f}, at least 0.8: {verdict}." in text
    assert "- shape: 25% of the plain margin is left given the edges, at 10 draws." in text
