"""The probe on a denoiser's features: scikit-learn's own, on what the network really computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import diffcls
from diffcls.draws import noise
from diffcls.errors import UsageError
from diffcls.methods import sd_features
from diffcls.models import loading
from diffcls.models.features import FeatureReader, pool

Pipelines = Callable[[str], Path]
RNG = np.random.default_rng(3)


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_are_scikit_learns(classes: int) -> None:
    labels = np.arange(200) % classes
    features = RNG.normal(labels[:, None] * RNG.normal(size=12), 2.0, (200, 12)) * 7 + 3
    probe = sd_features.fit_probe(features, labels, classes, 0.1)
    reference = sd_features._pipeline(0.1).fit(features, labels)
    fresh = RNG.normal(size=(50, 12)) * 9
    found = probe(fresh)
    theirs = reference.decision_function(fresh)
    if classes == 2:
        assert found[:, 1] - found[:, 0] == pytest.approx(theirs, abs=1e-9)
    else:
        assert found == pytest.approx(theirs, abs=1e-9)
    predicted = probe(features).argmax(axis=1)
    assert (predicted == labels).mean() == reference.score(features, labels)


def test_class_without_images_is_never_the_answer() -> None:
    labels = np.array([0, 2, 3] * 30)
    features = RNG.normal(labels[:, None], 1.0, (90, 6))
    found = sd_features.fit_probe(features, labels, 5, 1.0)(RNG.normal(size=(500, 6)) * 50)
    assert set(found.argmax(axis=1)) <= {0, 2, 3}


def test_features_are_what_the_blocks_give(tiny_pipeline: Pipelines) -> None:
    denoiser = loading.load(str(tiny_pipeline("v_prediction")))
    reader = FeatureReader(denoiser, seed=4)
    assert list(reader.blocks) == [
        *("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1")
    ]
    x0 = torch.randn(3, *denoiser.sample_shape, generator=torch.Generator().manual_seed(0))
    found = reader.read(x0, 300, ["mid_block", "down_blocks.0"], 2)
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
        assert found[name].numpy() == pytest.approx(pool(expected, 2).numpy(), abs=1e-5)


def test_pooling_is_the_mean_of_equal_parts() -> None:
    maps = torch.arange(32.0).view(1, 2, 4, 4)
    assert pool(maps, 1).tolist() == [[7.5, 23.5]]
    assert pool(maps, 2)[0, :4].tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pool(torch.arange(12.0).view(1, 4, 3), 2).tolist() == [[4.5, 5.5, 6.5]]


def test_run_is_marked_as_learned_from_labels_and_learns_once(
    tiny_pipeline: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sd_features, "TIMES", (0.1,))
    monkeypatch.setattr(sd_features, "GRIDS", (1,))
    monkeypatch.setattr(sd_features, "STRENGTHS", (0.01,))
    monkeypatch.setattr(sd_features, "CHOOSING", 100)
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


def test_data_set_without_training_images_is_refused() -> None:
    with pytest.raises(UsageError, match="objectnet has no images to learn from"):
        diffcls.run_evaluation(dataset="objectnet", method="sd-features")
