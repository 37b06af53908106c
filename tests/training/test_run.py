"""Training data of a finished model: names and hashes beside its card, through fine-tuning too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffcls import train
from diffcls.data import seen_images
from diffcls.data.load import load_dataset
from diffcls.data.seen_images import SEEN_FILE
from diffcls.models import loading
from diffcls.training import recipe_table
from diffcls.training.recipes import PixelRecipe

SMALL = PixelRecipe(image_size=8, widths=(8, 16), flip=False, images=32, batch=16)


def save_digits(root: Path, count: int = 24) -> Path:
    for i, item in enumerate(load_dataset("digits", "test").items[:count]):
        folder = root / "ab"[item.label % 2]
        folder.mkdir(parents=True, exist_ok=True)
        item.open().save(folder / f"{i}.png")
    return root


def test_hashes_of_the_training_images_lie_beside_the_card_and_survive_fine_tuning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipe_table.PIXEL_RECIPES, "digits", SMALL)  # type: ignore[misc]
    monkeypatch.setattr(recipe_table, "ANY_PIXEL_RECIPE", SMALL, raising=False)
    flags = ["--model", "pixels", "--quiet", "--threads", "1", "--images", "32"]
    shape = ["--no-conditional"]
    base, own = tmp_path / "base", save_digits(tmp_path / "own")
    assert train.main(["--output-dir", str(base), "--dataset", "digits", *flags, *shape]) == 0
    first = base / "digits-pixels-unconditional"
    files = sorted(path.relative_to(first) for path in first.rglob(SEEN_FILE))
    assert len(files) > 1 and files[0] == Path(SEEN_FILE)  # the snapshots have it too
    assert len({(first / file).read_bytes() for file in files}) == 1
    card = loading.read_card(loading.find(str(first)))
    assert card.seen_images == first / SEEN_FILE
    seen = seen_images.read(first / SEEN_FILE)
    data = load_dataset("digits", "train")
    assert seen.total == len(seen.images) == len(data)
    assert seen.common_images(seen_images.sample_hashes(data)) == seen_images.SAMPLE_IMAGES

    again = [*flags, *shape, "--init", str(first), "--dataset", f"folder:{own}"]
    assert train.main(["--output-dir", str(tmp_path / "tuned"), *again]) == 0
    (tuned,) = (tmp_path / "tuned").glob("*/diffcls.json")
    names = json.loads(tuned.read_text(encoding="utf-8"))["trained_on"]
    assert "digits" in names and names[-1] == "digits" and len(names) > 1
    both = seen_images.read(tuned.parent / SEEN_FILE)
    assert np.isin(seen.images, both.images).all()
    assert both.is_copy(seen_images.sample_hashes(load_dataset(f"folder:{own}", "train")))
    assert both.has_name(["seven"]) is False and both.has_name(["7"]) and both.has_name(["a"])
