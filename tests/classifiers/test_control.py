"""Classification given a map of each image: invariances of the scores, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import control_nets
from PIL import Image

from diffcls import evaluate
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.control_maps import ControlMaps, parse
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.options import EvaluationOptions
from diffcls.models import control, given
from diffcls.models.denoiser import Denoiser
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.racing import Racing

SEARCH = Exhaustive(draws=3)
PROMPTS = PromptSet.from_templates(["red circle", "blue square", "green cross"], ["a {}"])


@pytest.fixture(scope="module")
def plain() -> Denoiser:
    return given.load("scenes", "cpu", None, None)


@pytest.fixture(scope="module")
def nets(plain: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A ControlNet of random weights, and one that changes nothing."""
    folder = tmp_path_factory.mktemp("nets")
    return {
        name: str(control_nets.save("sd1", plain.pipeline, folder / name, is_zero=name == "zero"))
        for name in ("random", "zero")
    }


def images(count: int) -> list[Item]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    opened = [Image.fromarray(one).resize((32, 32), Image.Resampling.NEAREST) for one in pixels]
    return [Item(f"test/{i}", 0, lambda one=one: one) for i, one in enumerate(opened)]


def scores(denoiser: Denoiser, items: Sequence[Item], **settings: Any) -> dict[str, list[float]]:
    maps = settings.pop("maps", parse("canny"))
    method = DiffusionMethod(denoiser, PROMPTS, settings.pop("search", SEARCH), **settings)
    if control.plain(denoiser) is not denoiser:
        method.map_of = lambda image_id, pixels: control.encoded(
            denoiser, torch.from_numpy(maps.of(image_id, pixels))[None]
        )[0]
    return {one.image_id: list(one.scores) for one in method.classify(items)}


def test_a_zero_controlnet_changes_no_bit_of_the_scores(
    plain: Denoiser, nets: dict[str, str]
) -> None:
    pytest.importorskip("cv2")
    steered = control.steered(plain, nets["zero"])
    items = images(3)
    for search in (SEARCH, Racing(draws=6)):
        assert scores(steered, items, search=search) == scores(plain, items, search=search)


def test_scores_depend_on_no_other_image(plain: Denoiser, nets: dict[str, str]) -> None:
    pytest.importorskip("cv2")
    steered, items = control.steered(plain, nets["random"]), images(4)
    whole = scores(steered, items, batch_size=16)
    assert scores(steered, items[::-1], batch_size=16) == whole
    alone = scores(steered, items[2:3], batch_size=16)
    assert alone["test/2"] == whole["test/2"]
    assert whole != scores(plain, items, batch_size=16)


def test_each_image_has_its_own_map(plain: Denoiser, nets: dict[str, str], tmp_path: Path) -> None:
    steered, items = control.steered(plain, nets["random"]), images(2)
    (tmp_path / "test").mkdir()

    def with_maps(*values: int) -> dict[str, list[float]]:
        for i, value in enumerate(values):
            Image.new("L", (32, 32), value).save(tmp_path / "test" / f"{i}.png")
        return scores(steered, items, maps=ControlMaps("maps", tmp_path))

    before, after = with_maps(0, 0), with_maps(0, 255)
    assert before["test/0"] == after["test/0"]
    assert before["test/1"] != after["test/1"]


@pytest.mark.slow
def test_a_run_names_control_and_controlnet(
    nets: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2")
    flags = ["--dataset", "scenes/attributes", "--limit", "2", "--draws", "1", "--json", "--quiet"]
    flags += ["--output-dir", str(tmp_path), "--no-check-model", "--search", "racing"]
    flags += ["--max-evaluations", "96"]
    seen = {}
    for name, net in nets.items():
        added = ["--control", "canny", "--control-model", net]
        assert evaluate.main([*flags, *added]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        seen[row["fingerprint"]] = row["revision"]
        assert "control=canny" in row["setting"]
        header = json.loads((tmp_path / "runs" / row["fingerprint"] / "run.json").read_text())
        recorded = json.loads(header["spec"]["control"])
        assert recorded["kind"] == "canny"
        assert recorded["model"] == name
        assert row["revision"].endswith(f" + {recorded['revision']}")
    assert len(seen) == len(set(seen.values())) == 2


@pytest.mark.parametrize(
    ("given_options", "words"),
    [
        ({"control": "edges"}, "control"),
        ({"control_model": "control-scenes"}, "needs --control"),
        ({"control": "canny", "control_model": "no-such-net"}, "ControlNet"),
        ({"control": "canny", "model": "digits"}, "needs a ControlNet of the model"),
        ({"control": "canny", "model": "digits-pixels"}, "no ControlNet steers models"),
        ({"control": "canny", "control_model": "NET", "offload": "model"}, "exclude each other"),
        ({"control": "canny", "control_model": "NET", "search": "learned"}, "without maps"),
    ],
)
def test_what_cannot_be_controlled_is_refused_in_one_line(
    given_options: dict[str, str], words: str, nets: dict[str, str]
) -> None:
    from diffcls.evaluation.plan import check_names
    from diffcls.support.errors import UsageError

    pytest.importorskip("cv2")
    chosen = {k: nets["zero"] if v == "NET" else v for k, v in given_options.items()}
    options = EvaluationOptions(**{"dataset": "scenes/attributes", **chosen})
    with pytest.raises(UsageError, match=words) as caught:
        check_names(options)
    assert "\n" not in str(caught.value)
