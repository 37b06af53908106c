"""``learn_concept``: its folder, what it refuses, and the ways of learning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from helpers.library_pipelines import Folders, folders
from safetensors.torch import load_file

import diffcls.learn_concept as command
from diffcls.concepts.discriminative import DRAWS, PosteriorLoss
from diffcls.concepts.learn import learn
from diffcls.concepts.learned_rows import LearnedRows, initial_vectors
from diffcls.concepts.options import ConceptSettings
from diffcls.concepts.task import LearningTask
from diffcls.data.load import load_dataset
from diffcls.models import loading
from diffcls.models.concept_files import EMBEDDINGS, LORA, parse
from diffcls.models.quiet import quiet

__all__ = ["folders"]
TOKEN = "<mine>"
SHORT = ["--steps", "2", "--batch-size", "4", "--seed", "3"]


@pytest.fixture(scope="module")
def sevens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sevens")
    items = [item for item in load_dataset("digits", "train").items if item.label == 7][:4]
    for number, item in enumerate(items):
        item.open().save(folder / f"{number}.png")
    return folder


def run(images: Path, out: Path, model: Path | str, *more: str) -> int:
    flags = ["--images", str(images), "--name", TOKEN, "--output-dir", str(out), "--quiet"]
    return command.main([*flags, "--model", str(model), *SHORT, *more])


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_folder_is_a_concept_with_its_card(
    folders: Folders, sevens: Path, tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    assert run(sevens, out, folders(family), "--init", "three", "--vectors", "2") == 0
    assert "learned from 4 images" in capsys.readouterr().out
    card = json.loads((out / "concept.json").read_text(encoding="utf-8"))
    concept = parse(f"{out}=7")
    assert concept.phrase == card["name"] == TOKEN and concept.images == 4
    assert len(concept.hashes) == 4 and card["seed"] == 3 and card["init"] == "three"
    shapes = {k: tuple(v.shape) for k, v in load_file(out / EMBEDDINGS).items()}
    two = {"clip_l": (2, 32), "clip_g": (2, 32)}
    assert shapes == (two if family == "sdxl" else {TOKEN: (2, 32)})
    model: Any = loading.load(str(folders(family)), concepts=(str(out),))
    assert model.prompt_keys([TOKEN]) != model.prompt_keys(["mine"])
    # a finished concept is not overwritten
    assert run(sevens, out, folders(family), "--init", "three") == 2
    assert "already contains a learned concept" in capsys.readouterr().err


def test_what_cannot_be_learned_is_refused_in_one_line(
    folders: Folders, sevens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    pixart = folders("pixart")  # saved before, with a progress bar
    capsys.readouterr()
    for images, model, more, message in (
        (sevens, "digits-pixels", (), "a class-conditional model has no words"),
        (tmp_path / "empty", "digits", (), "--images: no images in the folder"),
        (tmp_path / "absent", "digits", (), "--images: folder not found"),
        (sevens, "digits", ("--rank", "4"), "--rank does not apply to --method textual"),
        (sevens, "digits", ("--method", "dreambooth"), "--method dreambooth needs --init"),
        (sevens, "digits", ("--method", "discriminative"), "needs --against"),
        (sevens, "digits", ("--against-images", "x"), "--against-images does not apply"),
        (sevens, "digits", ("--template", "no braces"), "does not contain exactly one {}"),
        (sevens, pixart, (), "this model family cannot have new words"),
        (sevens, "digitz", (), "did you mean 'digits'?"),
    ):
        assert run(images, tmp_path / "out", model, *more) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and "\n" not in error
    assert not (tmp_path / "out").exists()


def test_other_settings_do_not_resume(
    folders: Folders, sevens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sevens, tmp_path, folders("sd1")) == 0
    (tmp_path / "concept.json").unlink()
    before = (tmp_path / EMBEDDINGS).read_bytes()
    assert run(sevens, tmp_path, folders("sd1"), "--vectors", "2") == 2
    assert "begun with other settings" in capsys.readouterr().err
    assert run(sevens, tmp_path, folders("sd1")) == 0
    assert (tmp_path / EMBEDDINGS).read_bytes() == before


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_lora_loads_in_plain_diffusers_with_equal_outputs(
    folders: Folders, sevens: Path, tmp_path: Path, family: str
) -> None:
    flags = ("--method", "dreambooth", "--init", "three", "--prior-images", "2", "--rank", "2")
    assert run(sevens, tmp_path, folders(family), *flags) == 0
    assert parse(str(tmp_path)).phrase == f"{TOKEN} three"
    ours: Any = loading.load(str(folders(family)), concepts=(str(tmp_path),))
    with quiet():
        pipeline = DiffusionPipeline.from_pretrained(folders(family))
        pipeline.load_lora_weights(tmp_path / LORA)
    plain: Any = loading.load(str(folders(family)))
    cond = plain.encode_prompts([f"a {TOKEN} three"])
    x, at = torch.randn(1, *plain.sample_shape), torch.tensor([500])
    with torch.inference_mode():
        before, merged = (model.predict(x, at, cond) for model in (plain, ours))
        plain.network = pipeline.unet.eval()
        expected = plain.predict(x, at, cond)
    assert (before - expected).abs().max() > 1e-6
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


def test_dreambooth_resumes_to_the_same_weights(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    from diffcls.training import loop

    settings = ConceptSettings(
        name=TOKEN, init="three", method="dreambooth", steps=4, batch_size=2, prior_images=2, rank=2
    )

    def learned(folder: Path | None = None) -> dict[str, torch.Tensor]:
        model: Any = loading.load(str(folders("sd1")))
        x0 = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(0))
        return dict(learn(model, settings, x0, folder=folder).tensors)

    @contextmanager
    def after_two(processes: object) -> Any:
        steps = iter([False, True])
        yield lambda: next(steps)

    whole = learned()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "interrupt_requested", after_two)
        with pytest.raises(KeyboardInterrupt):
            learned(tmp_path)
    resumed = learned(tmp_path)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_log_odds_are_those_of_the_classifiers_posterior(folders: Folders) -> None:
    from diffcls.diffusion.parameterization import PARAMETERIZATIONS
    from diffcls.metrics.calibration import posterior

    model: Any = loading.load(str(folders("sd1")))
    settings = ConceptSettings(
        name=TOKEN, method="discriminative", against=("two", "zero"), batch_size=8
    )
    x0 = torch.randn(3, *model.sample_shape, generator=torch.Generator().manual_seed(1))
    rows = LearnedRows(model, TOKEN, initial_vectors(model, TOKEN, "three", 1))
    loss = PosteriorLoss(LearningTask(model, TOKEN, x0, settings, ("a {}",)), rows)
    draws = loss._draw(x0, torch.Generator().manual_seed(2))
    cond = model.encode_prompts([f"a {TOKEN}", "a two", "a zero"])
    with rows.attached():
        odds = loss._log_odds(x0, 0, torch.Generator().manual_seed(2)).detach()
    # epsilon-prediction: ε̂ is the output; each image's errors are means over its own draws
    assert model.parameterization is PARAMETERIZATIONS["epsilon"]
    errors = np.zeros((len(draws.x0) // DRAWS, 3))
    for k in range(3):
        at = torch.full((len(draws.x0),), k)
        with torch.inference_mode():
            out = model.predict(draws.x_t, draws.levels.index, cond.rows(at))
        square = (out - draws.noise).square().flatten(1).mean(1)
        errors[:, k] = square.double().view(-1, DRAWS).mean(1)
    p = posterior(-errors, float(np.prod(model.sample_shape)) / model.card.temperature)
    expected = np.log(p[:, 0]) - np.log1p(-p[:, 0])
    np.testing.assert_allclose(odds.numpy(), expected, rtol=1e-3, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["textual", "discriminative"])
def test_a_learned_concept_recognises_images_that_its_start_does_not(
    sevens: Path, tmp_path: Path, method: str
) -> None:
    import diffcls
    from diffcls.models.concept_files import tensors_of

    more = ["--against", "1", "2", "9"] if method == "discriminative" else []
    flags = ["--images", str(sevens), "--name", TOKEN, "--output-dir", str(tmp_path / "c")]
    assert command.main([*flags, "--quiet", "--steps", "40", "--method", method, *more]) == 0
    start = shutil.copytree(tmp_path / "c", tmp_path / "start")
    model: Any = loading.load("digits")
    from safetensors.torch import save_file

    mean = initial_vectors(model, TOKEN, None, 1)
    save_file(tensors_of(TOKEN, mean, type(model.pipeline).__name__), start / EMBEDDINGS)
    accuracy = {}
    for name in ("start", "c"):
        (row,) = diffcls.run_evaluation(
            dataset="digits",
            split="test",
            subset="8-per-class",
            draws=10,
            concept=[f"{tmp_path / name}=7"],
            output_dir=tmp_path / "results",
            quiet=True,
        )
        accuracy[name] = row["accuracy"]
    assert accuracy["c"] > accuracy["start"]
