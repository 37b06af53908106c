"""Any value of any JSON file of a model, replaced by any other: refused in a line, or harmless."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.models import loading, noisy_classifier
from diffcls.support.errors import DiffclsError

Pipelines = Callable[[str], Path]
Place = tuple[str | int, ...]
REMOVED = "removed"
NONSENSE = [
    *(None, True, False, 0, 1, -1, 10**9, 10**30, -(10**400), 0.5, 1e300),
    *(math.nan, math.inf, -math.inf),
    *("", "x", "0", "a\0b", "a\nb", "\ud800", "../../x", "x" * 5000, "CLIPTextModel"),
    *([], {}, [None], ["x"], [1, 2, 3], [[]], {"x": 1}, {"": None}, REMOVED),
]
CARD = {
    "name": "mine",
    "temperature": 0.5,
    "allocation": "cifar10",
    "trained_on": ["digits"],
    "labels": [],
    "images": 100,
    "recipe": {"images": 100},
    "continued_from": {"images": 5},
}


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Places of all values in a JSON value; of long lists and objects, the first three entries."""
    if place:
        yield place
    entries: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))
    for key, inner in entries[: 3 if len(entries) > 60 else None]:
        yield from places(inner, (*place, key))


def at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def replaced(value: Any, place: Place, new: Any) -> Any:
    """A copy with the value at a place replaced, or removed."""
    copy: Any = json.loads(json.dumps(value))
    inner = at(copy, place[:-1])
    if new is REMOVED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return copy


def kind(value: object) -> str:
    """The JSON type of a value."""
    names = {bool: "boolean", int: "number", float: "number", str: "text", list: "list"}
    return names.get(type(value), "other")


def outputs(folder: Path) -> list[torch.Tensor]:
    """All numbers that a classification depends on, for one image and two prompts."""
    model: Any = loading.load(str(folder))
    x_t = torch.linspace(-1, 1, math.prod(model.sample_shape)).reshape(1, *model.sample_shape)
    side = model.image_size
    image = torch.linspace(-1, 1, 3 * side**2).reshape(1, 3, side, side)
    cond = model.encode_prompts(["a 3", "seven"])
    index = torch.full((2,), len(model.schedule) // 2)
    out = model.predict(x_t.expand(2, -1, -1, -1), index, cond)
    schedule = model.schedule
    levels = torch.tensor(np.stack([schedule.alpha, schedule.sigma, schedule.timesteps]))
    noise = model.parameterization.to_noise(out, x_t, torch.tensor(0.6), torch.tensor(0.8))
    numbers = [model.encode_images(image), out, noise, levels]
    return [*numbers, torch.tensor(model.card.temperature)]


@pytest.fixture(scope="module")
def base(
    tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Pipelines
) -> tuple[Path, dict[str, Any], list[torch.Tensor]]:
    """A copy of a model with a card; the content of its JSON files; and its numbers."""
    folder = tmp_path_factory.mktemp("mutated") / "mine"
    shutil.copytree(tiny_pipeline("v_prediction"), folder)
    (folder / loading.CARD).write_text(json.dumps(CARD), encoding="utf-8")
    files = {str(p.relative_to(folder)): json.loads(p.read_text()) for p in folder.rglob("*.json")}
    return folder, files, outputs(folder)


def attempt(folder: Path, file: str, content: Any, compute: Callable[[Path], Any]) -> Any:
    """The result with other content in a file; None if it was refused, in one line."""
    path = folder / file
    whole = path.read_bytes()
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        return compute(folder)
    except DiffclsError as error:
        assert error.exit_status == 2, str(error)
        assert "\n" not in str(error) and len(str(error)) < 1000
        return None
    finally:
        path.write_bytes(whole)


@examples(40, 2000, choice=st.integers(0, 10**6), new=st.sampled_from(NONSENSE))
def test_no_mutated_model_fails_with_a_traceback_or_is_believed(
    base: tuple[Path, dict[str, Any], list[torch.Tensor]], choice: int, new: Any
) -> None:
    folder, files, numbers = base
    every = [(file, place) for file in sorted(files) for place in places(files[file])]
    file, place = every[choice % len(every)]
    old = at(files[file], place)
    result = attempt(folder, file, replaced(files[file], place, new), outputs)
    if result is None:
        return
    assert all(torch.isfinite(part).all() for part in result), (file, place)
    if new is REMOVED or new is None or kind(new) == kind(old):
        return  # a default, or another value that a model can have
    if old is None and kind(new) == "number":
        return  # such as shift_factor
    same = all(map(torch.equal, result, numbers))
    assert same, f"{new!r} was believed at {place} of {file}"


@examples(100, 2000, key=st.sampled_from(sorted(CARD)), new=st.sampled_from(NONSENSE))
def test_no_mutated_card_is_believed(
    base: tuple[Path, dict[str, Any], list[torch.Tensor]], key: str, new: Any
) -> None:
    folder, files, _ = base
    content = replaced(files[loading.CARD], (key,), new)

    def card(folder: Path) -> Any:
        loading.images_seen(str(folder))
        return loading.read_card(loading.ModelFiles(folder))

    result = attempt(folder, loading.CARD, content, card)
    if result is None or new is REMOVED:
        return
    assert kind(new) == kind(CARD[key]) or (key == "images" and new is None)
    assert math.isfinite(result.temperature) and result.temperature > 0
    assert all(isinstance(text, str) for text in (*result.labels, *result.trained_on))
    assert result.name.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@examples(100, 2000, value=JSON, key=st.sampled_from(sorted(CARD)), whole=st.booleans())
def test_no_card_of_any_json_is_believed(
    base: tuple[Path, dict[str, Any], list[torch.Tensor]], value: Any, key: str, whole: bool
) -> None:
    folder, files, _ = base
    content = value if whole else {**files[loading.CARD], key: value}
    result = attempt(
        folder,
        loading.CARD,
        content,
        lambda folder: loading.read_card(loading.ModelFiles(folder)),
    )
    if result is None:
        return
    assert isinstance(content, dict)
    assert 1e-6 <= result.temperature <= 1e6
    assert all(isinstance(text, str) for text in (*result.labels, *result.trained_on))


@examples(100, 2000, choice=st.integers(0, 10**6), new=st.sampled_from(NONSENSE))
def test_no_mutated_card_of_a_noisy_classifier_fails_with_a_traceback(
    tmp_path: Path, choice: int, new: Any
) -> None:
    folder = tmp_path / "noisy"
    if not folder.exists():
        shutil.copytree(noisy_classifier.folder_of("noisy-digits"), folder)
    content = json.loads((folder / loading.CARD).read_text())
    content = {k: v for k, v in content.items() if k != "curve"}
    every = list(places(content))
    place = every[choice % len(every)]

    def logits(folder: Path) -> torch.Tensor:
        noisy_classifier.revision(folder)
        loaded = noisy_classifier.load(str(folder))
        return loaded.model(torch.zeros(1, *loaded.shape), torch.ones(1), torch.zeros(1))

    result = attempt(folder, loading.CARD, replaced(content, place, new), logits)
    assert result is None or result.shape == (1, 10)
