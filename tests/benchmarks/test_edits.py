"""Edits benchmark: exchanged words, what is outside an object, figures and verdicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.accuracy.edited_scenes import (
    PARTS,
    Outcome,
    kind_of,
    new_object,
    psnr,
    row,
    swapped,
)
from benchmarks.accuracy.edits import measure, verdicts
from benchmarks.accuracy.pointing import object_mask
from diffcls.data.load import load_dataset
from diffcls.data.scenes.grammar import Group
from diffcls.data.transforms import load_image, to_pixels


def test_exactly_one_attribute_is_exchanged_and_every_value_occurs() -> None:
    data = load_dataset("scenes/attributes", "test")
    for part, values in PARTS.items():
        seen = set()
        for item in data.items[:60]:
            kind = kind_of(item)
            assert str(Group(kind)) == data.class_names[item.label]
            other = swapped(kind, part, item.image_id)
            assert [p for p in PARTS if getattr(kind, p) != getattr(other, p)] == [part]
            assert other == swapped(kind, part, item.image_id)
            seen.add(getattr(other, part))
        assert seen == set(values)


def test_colourful_pixels_are_those_of_the_object() -> None:
    for item in load_dataset("scenes/attributes", "test").items[:40]:
        image = torch.from_numpy(to_pixels(load_image(item.open()), 32))
        found, mask = new_object(image), object_mask(item)
        assert found[mask].mean() > 0.95 and found.mean() < 0.6


def test_psnr_is_that_of_the_mean_square() -> None:
    image = torch.zeros(3, 4, 4)
    assert psnr(image + 0.2, image) == pytest.approx(20.0)  # 2/0.2 is a factor of ten
    assert psnr(image, image) > 100


def test_rows_are_shares_and_means_and_targets_are_judged() -> None:
    good, bad = Outcome(True, True, 0.0, 30.0, 31.5), Outcome(False, False, 0.2, 20.0, 31.5)
    found = row("colour", [good, good, good, bad])
    assert (found["n"], found["rate"], found["other_attributes_kept"]) == (4, 0.75, 0.75)
    assert found["changed_outside"] == pytest.approx(0.05) and found["psnr"] == 27.5
    assert found["ci_low"] < 0.75 < found["ci_high"]
    lines = [*verdicts([row("null", [good]), row("all swaps", [good, bad])])]
    assert lines[0] == "- Null edits lose 1.50 dB, at most 1: missed."
    assert "50.0% of the swaps" in lines[1] and lines[1].endswith("at least 70%: missed.")


@pytest.mark.slow
def test_measured_edits_show_what_was_asked_for() -> None:
    rows = {one["edit"]: one for one in measure(6, 12)}
    assert rows["null"]["rate"] == 1.0 and rows["null"]["changed_outside"] == 0.0
    assert rows["null"]["psnr"] == pytest.approx(rows["null"]["psnr_of_autoencoder"], abs=0.05)
    assert rows["all swaps"]["rate"] > 0.6 and rows["all swaps"]["judge_accuracy"] > 0.9
    assert np.isfinite([one["psnr"] for one in rows.values()]).all()
