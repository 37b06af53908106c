"""Linear probe on denoiser features: equal to scikit-learn's, on the blocks' own outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from helpers.tiny_families import loaded, saved
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import diffcls
from diffcls.classifiers import linear_probe, sd_features
from diffcls.classifiers.base import Built
from diffcls.data import catalog
from diffcls.data import load as loading_data
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.diffusion.draws import noise
from diffcls.evaluation.options import EvaluationOptions
from diffcls.models import loading
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.models.unet_features import FeatureReader, blocks, pool
from diffcls.support.errors import ModelError, UsageError

Pipelines = Callable[[str], Path]


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("strength", [0.1, 0.001])
def test_scores_are_scikit_learns(classes: int, strength: float) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(200) % classes
    features = rng.normal(labels[:, None] * rng.normal(size=12), 2.0, (200, 12)) * 7 + 3
    probe = sd_features.fit_probe(features, labels, classes, strength)
    regression = LogisticRegression(C=strength, max_iter=500, tol=1e-3)
    reference = make_pipeline(StandardScaler(), regression).fit(features, labels)
    fresh = rng.normal(size=(50, 12)) * 9
    result = probe(fresh)
    theirs = reference.decision_function(fresh)
    if classes == 2:
        assert result[:, 1] - result[:, 0] == pytest.approx(theirs, abs=1e-9)
    else:
        assert result == pytest.approx(theirs, abs=1e-9)
    predicted = probe(features).argmax(axis=1)
    assert (predicted == labels).mean() == reference.score(features, labels)


def test_class_without_images_is_never_predicted() -> None:
    rng = np.random.default_rng(4)
    for present in ([0, 2, 3], [1, 4]):
        labels = np.array(present * 30)
        features = rng.normal(labels[:, None], 1.0, (len(labels), 6))
        probe = sd_features.fit_probe(features, labels, 5, 1.0)
        far = probe(rng.normal(size=(500, 6)) * 50)
        assert set(far.argmax(axis=1)) == set(present)
        absent = sorted(set(range(5)) - set(present))
        # nor does its posterior, e^-100 at most, change that of other classes
        assert (far[:, present].max(axis=1) - far[:, absent].max(axis=1)).min() > 100


def test_features_are_pooled_block_outputs(tiny_pipeline: Pipelines) -> None:
    denoiser = loading.load(str(tiny_pipeline("v_prediction")))
    reader = FeatureReader(denoiser, seed=4)
    assert list(reader.blocks) == [
        *("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1")
    ]
    x0 = torch.randn(3, *denoiser.sample_shape, generator=torch.Generator().manual_seed(0))
    result = reader.read(x0, 300, ["mid_block", "down_blocks.0"], 2)
    alpha, sigma = denoiser.schedule.alpha[300], denoiser.schedule.sigma[300]
    x_t = float(alpha) * x0 + float(sigma) * noise(4, 0, denoiser.sample_shape)
    unet = denoiser.pipeline.unet  # type: ignore[attr-defined]
    text = denoiser.encode_prompts([""])["text"].repeat(3, 1, 1)
    with torch.inference_mode():
        steps = unet.time_proj(torch.full((3,), denoiser.schedule.timesteps[300])).float()
        emb = unet.time_embedding(steps)
        hidden = unet.conv_in(x_t)
        hidden, _ = unet.down_blocks[0](hidden, emb)
        first = hidden
        hidden, _ = unet.down_blocks[1](hidden, emb, encoder_hidden_states=text)
        middle = unet.mid_block(hidden, emb, encoder_hidden_states=text)
    for name, expected in (("down_blocks.0", first), ("mid_block", middle)):
        assert result[name].numpy() == pytest.approx(pool(expected, 2).numpy(), abs=1e-5)
    assert not any(block._forward_hooks for block in reader.blocks.values())


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_image_features_are_taken_from_blocks_that_return_text_too(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A transformer block returns text and image features; the output layers use the latter."""
    denoiser = loaded(saved(name, tmp_path_factory.getbasetemp()))
    network = denoiser.network
    seen: list[Tensor] = []

    def see(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(named["hidden_states"] if named else given[0])

    after = network.norm_out if name == "sd3" else network.single_transformer_blocks[0]
    handle = after.register_forward_pre_hook(see, with_kwargs=True)
    reader = FeatureReader(denoiser, seed=0)
    block = list(reader.blocks)[-1]
    x0 = torch.randn(2, *denoiser.sample_shape, generator=torch.Generator().manual_seed(0))
    result = reader.read(x0, 300, list(reader.blocks), 1)
    handle.remove()
    assert set(result) == set(reader.blocks)  # the last block of sd3 returns no text at all
    assert torch.allclose(result[block], seen[0].mean(dim=1), atol=1e-5)


def test_blocks_of_a_transformer_lie_at_each_quarter_of_its_depth() -> None:
    for depth, chosen in ((28, [6, 13, 20, 27]), (4, [0, 1, 2, 3]), (2, [0, 1]), (1, [0])):
        network = nn.Module()
        network.transformer_blocks = nn.ModuleList(nn.Identity() for _ in range(depth))
        assert list(blocks(network)) == [f"transformer_blocks.{i}" for i in chosen]
    with pytest.raises(ModelError, match="cannot extract features of this network: 'Linear'"):
        blocks(nn.Linear(1, 1))


def test_model_without_a_network_is_refused() -> None:
    with pytest.raises(ModelError, match="features need a model with a neural network"):
        FeatureReader(GaussianDenoiser({"": torch.zeros(3, 4, 4)}), seed=0)


def test_location_is_the_one_that_separates_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(60) % 3
    rng = np.random.default_rng(0)

    def read(_: object, data: Any, index: int, grid: int) -> tuple[dict[str, Any], Any]:
        features = {name: rng.normal(size=(60, 4)) for name in ("first", "middle", "last")}
        if (index, grid) == (200, 2):
            features["middle"][:, :3] += 50 * np.eye(3)[labels]
        if (index, grid) == (80, 1) and data is train:  # not on validation images
            features["last"][:, :3] += 50 * np.eye(3)[labels]
        return features, labels

    monkeypatch.setattr(sd_features, "_read_blocks", read)
    names = dict.fromkeys(("first", "middle", "last"))
    reader: Any = SimpleNamespace(blocks=names, denoiser=SimpleNamespace(schedule=range(1000)))
    train: Any = SimpleNamespace(class_names="abc")
    place, accuracy = sd_features._choose_location(reader, train, cast(Any, None))
    assert place == sd_features.FeatureLocation("middle", 200, 2) and accuracy == 1.0


def built(model: Path, output: Path, **wishes: Any) -> Built:
    options = EvaluationOptions(
        method=("sd-features",), model=str(model), output_dir=str(output), batch_size=8, **wishes
    )
    prompts = PromptSet.from_templates(tuple("0123456789"), ("{}",))
    return sd_features.build(options, catalog.find("digits"), prompts)


def test_batch_composition_and_order_change_no_bit(
    tiny_pipeline: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    shapes = {"mean": 32, "scale": 32, "weight": (10, 32), "bias": 10}
    fit = {name: rng.uniform(0.5, 1.5, shape) for name, shape in shapes.items()}
    place = {"block": np.array("mid_block"), "index": np.array(80), "grid": np.array(1)}
    monkeypatch.setattr(sd_features, "_fit", lambda *_: {**fit, **place})
    method = built(tiny_pipeline("v_prediction"), tmp_path).method
    items = load_dataset("digits").items[:11]
    together = {answer.image_id: answer.scores for answer in method.classify(items)}
    backwards = {answer.image_id: answer.scores for answer in method.classify(items[::-1])}
    (alone,) = method.classify(items[5:6])
    assert len(together) == 11 and len({scores.tobytes() for scores in together.values()}) == 11
    assert all(np.array_equal(together[i], backwards[i]) for i in together)
    assert np.array_equal(alone.scores, together[alone.image_id])


def test_image_size_and_precision_change_the_fingerprint(
    tiny_pipeline: Pipelines, tmp_path: Path
) -> None:
    model = tiny_pipeline("v_prediction")
    wishes: tuple[dict[str, Any], ...] = ({}, {"img_size": 64}, {"dtype": "bfloat16"})
    every = [built(model, tmp_path, **wish).search_options for wish in wishes]
    assert len({json.dumps(options) for options in every}) == 3


def test_pooling_is_the_mean_of_equal_parts() -> None:
    maps = torch.arange(32.0).view(1, 2, 4, 4)
    assert pool(maps, 1).tolist() == [[7.5, 23.5]]
    assert pool(maps, 2)[0, :4].tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pool(torch.arange(12.0).view(1, 4, 3), 2).tolist() == [[4.5, 5.5, 6.5]]


def test_row_has_supervision_labels_and_the_probe_is_fitted_once(
    tiny_pipeline: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sd_features, "TIMES", (0.1,))
    monkeypatch.setattr(sd_features, "GRIDS", (1,))
    monkeypatch.setattr(linear_probe, "STRENGTHS", (0.01,))
    monkeypatch.setattr(sd_features, "MAX_SELECTION_IMAGES", 100)
    wishes = {
        "method": "sd-features",
        "model": str(tiny_pipeline("v_prediction")),
        "output_dir": str(tmp_path),
        "quiet": True,
    }
    (row,) = diffcls.run_evaluation(limit=30, **wishes)
    assert row["supervision"] == "labels" and row["evaluations_per_image"] == 1
    assert row["accuracy"] > 0.5  # digits are easy even for random features
    monkeypatch.setattr(sd_features, "_fit", None)  # would fail if it were called
    (more,) = diffcls.run_evaluation(limit=40, **wishes)
    assert more["n_scored"] == 40
    (dry,) = diffcls.run_evaluation(limit=40, dry_run=True, seed=1, **wishes)
    assert dry["evaluations_per_image_at_most"] == 1


def test_data_set_without_training_images_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading_data, "load_split", None)
    monkeypatch.setattr(loading, "load", None)
    with pytest.raises(UsageError, match="objectnet has no labelled images for training"):
        diffcls.run_evaluation(dataset="objectnet", method="sd-features")
