"""Model families agree with the library's own code in prompts, latents, noise and errors."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from helpers.library_pipelines import (
    INDICES,
    TOKENS,
    Folders,
    encoded_by_hand,
    error_by_hand,
    folders,
    images,
    images_by_hand,
    latents_by_hand,
    model,
    name,
    opened_by_hand,
    pipe,
    prompts_of,
)
from helpers.log_messages import own_messages
from helpers.references import REFERENCES
from helpers.tiny_families import (
    CLASSES,
    TEXT,
    loaded,
    save,
    size_of,
    unconditional,
)
from PIL import Image

from diffcls.diffusion.draws import DrawPlan
from diffcls.evaluation.run import run_evaluation
from diffcls.models import loading
from diffcls.scoring.scorer import Scorer
from diffcls.support.errors import ModelError, UsageError

__all__ = ["folders", "model", "name", "pipe"]  # fixtures

# ---- agreement ----------------------------------------------------------------------------------


@torch.inference_mode()
def test_latents_are_the_librarys(model: Any, pipe: Any) -> None:
    x = images(model, 2)
    x0 = latents_by_hand(pipe, x)
    torch.testing.assert_close(model.encode_images(x), x0)
    torch.testing.assert_close(model.decode_latents(x0), images_by_hand(pipe, x0))


@torch.inference_mode()
def test_prompts_are_encoded_as_the_library_does(model: Any, pipe: Any) -> None:
    prompts = prompts_of(model)
    mine, theirs = model.encode_prompts(prompts), encoded_by_hand(pipe, prompts)
    assert set(mine) == set(theirs)
    for part, tensor in theirs.items():
        assert torch.equal(mine[part], tensor), part


@torch.inference_mode()
def test_errors_are_those_of_a_direct_computation(model: Any, pipe: Any) -> None:
    prompts = prompts_of(model)
    scorer = Scorer(model, model.encode_prompts(prompts), DrawPlan(INDICES.numpy()), batch_size=5)
    x = images(model, 1)
    x0 = model.encode_images(x)
    for row in range(len(prompts)):
        cond = encoded_by_hand(pipe, prompts[row : row + 1])
        wanted = [
            error_by_hand(pipe, x0, scorer.noise[j][None], int(index), cond)
            for j, index in enumerate(INDICES)
        ]
        rows = torch.full((len(INDICES),), row)
        result = scorer.errors(x0.expand(len(INDICES), -1, -1, -1), rows, range(len(INDICES)))
        torch.testing.assert_close(result, torch.tensor(wanted), rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_sdxl_is_conditioned_on_the_size_of_the_scored_image(folders: Folders) -> None:
    model: Any = loading.load(str(folders("sdxl")), img_size=48)
    pipe = opened_by_hand(folders("sdxl"))
    cond = model.encode_prompts(["zero"])
    x_t = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(6))
    ids = torch.tensor([[48.0, 48.0, 0.0, 0.0, 48.0, 48.0]])  # original, corner, target
    added = {"text_embeds": cond["pooled"], "time_ids": ids}
    theirs = pipe.unet(x_t, 300, encoder_hidden_states=cond["text"], added_cond_kwargs=added)
    torch.testing.assert_close(model.predict(x_t, torch.tensor([300]), cond), theirs.sample)


@pytest.mark.parametrize("index", [100, 500, 900])
@torch.inference_mode()
def test_flow_noise_is_the_schedulers(folders: Folders, index: int) -> None:
    model = loaded(folders("sd3"))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)  # steps at all of 1000, …, 1
    rng = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 1, 16, 16, 16, generator=rng)
    t = scheduler.timesteps[1000 - index]
    assert float(t) == index
    sigma = index / 1000
    torch.testing.assert_close(
        scheduler.scale_noise(x0, t[None], eps), (1 - sigma) * x0 + sigma * eps
    )
    # ours lie in the middle between two of theirs, whatever the sampler's shift
    assert model.schedule.sigma[index] == pytest.approx(sigma + 0.0005)
    assert model.schedule.timesteps[index] == pytest.approx(index + 0.5)


@torch.inference_mode()
def test_half_precision_stays_near_single(name: str, model: Any, folders: Folders) -> None:
    half: Any = loading.load(str(folders(name)), dtype=torch.bfloat16, img_size=model.image_size)
    cond = half.encode_prompts(prompts_of(half))
    x_t = torch.randn(2, *half.sample_shape, generator=torch.Generator().manual_seed(4))
    index, rows = torch.tensor([200, 800]), torch.tensor([0, 1])
    out = half.predict(x_t.bfloat16(), index, cond.rows(rows))
    assert out.dtype == torch.bfloat16
    exact = model.predict(x_t, index, model.encode_prompts(prompts_of(model)).rows(rows))
    scale = exact.std()
    assert (out.float() - exact).std() < 0.1 * scale
    with half.float32():
        retried = half.predict(x_t, index, cond.rows(rows))
    assert retried.dtype == torch.float32
    again = half.predict(x_t.bfloat16(), index, cond.rows(rows))
    assert torch.equal(again, out)  # the weights are restored


# ---- refusals and warnings ----------------------------------------------------------------------


def test_unconditional_model_classifies_nothing(tmp_path: Path) -> None:
    save(unconditional, tmp_path / "ddpm")
    with pytest.raises(UsageError, match="the model is unconditional"):
        run_evaluation(model=str(tmp_path / "ddpm"), output_dir=str(tmp_path))
    model = loading.load(str(tmp_path / "ddpm"))
    assert model.labels == ()
    cond = model.encode_prompts([""])
    with pytest.raises(UsageError, match="the model is unconditional"):
        model.encode_prompts(["0"])
    x_t = torch.randn(1, *model.sample_shape)
    theirs = model.pipeline.unet(x_t, torch.tensor([500])).sample
    torch.testing.assert_close(model.predict(x_t, torch.tensor([500]), cond), theirs)


@pytest.mark.parametrize("family", ["sd3", "flux", "pixart", "dit"])
def test_image_size_must_fit_the_patches(folders: Folders, family: str) -> None:
    with pytest.raises(UsageError, match="image size does not fit the model: 34"):
        loading.load(str(folders(family)), img_size=34)
    assert loading.load(str(folders(family)), img_size=36).sample_shape[1:] == (18, 18)


@pytest.mark.parametrize("family", sorted(TEXT))
def test_truncated_prompts_raise_a_warning(
    folders: Folders, family: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, reads = loaded(folders(family)), TOKENS[family]
    caplog.clear()  # what is reported on loading
    with caplog.at_level(logging.WARNING, logger="diffcls"):
        model.encode_prompts(["three", "seven"])
        assert not own_messages(caplog)
        if family not in REFERENCES:  # more than CLIP reads, less than T5 does
            model.encode_prompts(["three" + " photo" * 100])
            expected = [f"1 prompts are truncated to {reads} tokens"] if reads == 77 else []
            assert [message.partition(",")[0] for message in own_messages(caplog)] == expected
            caplog.clear()
        model.encode_prompts(["three" + " photo" * 600, "seven" + " photo" * 600])
    (message,) = own_messages(caplog)
    assert f"2 prompts are truncated to {reads} tokens" in message
    with pytest.raises(ModelError, match=f"equal after truncation to {reads} tokens"):
        model.encode_prompts(["photo" + " photo" * 600, "photo" + " photo" * 600 + " three"])


def test_names_of_classes_come_from_the_index(folders: Folders, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(folders("dit"), tmp_path / "dit"))
    assert loading.load(str(folder)).labels == ("",) * 10
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    index["id2label"] = {str(i): f"name {i}, other {i}" for i in range(10)}
    path.write_text(json.dumps(index))
    labels = loading.load(str(folder)).labels
    assert labels is not None and labels[7] == "name 7, other 7" and len(labels) == 10


def test_class_models_have_labels_and_text_models_none(model: Any, name: str) -> None:
    assert (model.labels is not None) == (name in CLASSES)


# ---- the command --------------------------------------------------------------------------------


def test_evaluation_ends_with_a_row(
    name: str, folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for k in range(3):
        (tmp_path / "photos" / str(k)).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (40, 36), (80 * k, 20 * i, 99)).save(tmp_path / f"photos/{k}/{i}.png")
    with caplog.at_level(logging.WARNING, logger="diffcls"):
        (row,) = run_evaluation(
            dataset=f"folder:{tmp_path / 'photos'}",
            model=str(folders(name)),
            search="exhaustive",
            draws=3,
            img_size=size_of(name),
            batch_size=8,
            output_dir=str(tmp_path / "out"),
            quiet=True,
        )
    assert row["status"] == "complete" and row["n_scored"] == 6
    assert row["evaluations_per_image"] == 9 and row["supervision"] == "zero-shot"
    assert "looks untrained" in caplog.text
    assert ("the model has no class names" in caplog.text) == (name in CLASSES)
