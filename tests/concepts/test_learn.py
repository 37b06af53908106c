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
from PIL import Image
from safetensors.torch import load_file

import diffcls.concepts.learn as learning
import diffcls.learn_concept as command
from diffcls.concepts.discriminative import DRAWS, NEARNESS, PosteriorLoss
from diffcls.concepts.learn import learn
from diffcls.concepts.learned_rows import LearnedRows, initial_vectors
from diffcls.concepts.options import ConceptSettings
from diffcls.concepts.posterior_draws import drawn
from diffcls.concepts.task import LearningTask
from diffcls.data.load import load_dataset
from diffcls.models import loading
from diffcls.models.concept_files import EMBEDDINGS, LORA, parse
from diffcls.models.quiet import quiet
from diffcls.support.errors import UsageError
from diffcls.training.loop import generator
from diffcls.training.run_files import read_curve

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
    rival = ("--method", "discriminative", "--against", "two", "--against-images")
    pixart = folders("pixart")  # saved before, with a progress bar
    capsys.readouterr()
    for images, model, more, message in (
        (sevens, "digits-pixels", (), "a class-conditional model has no words"),
        (tmp_path / "empty", "digits", (), "--images: no images in the folder"),
        (tmp_path / "absent", "digits", (), "--images: folder not found"),
        (sevens, "digits", ("--rank", "4"), "--rank does not apply to --method textual"),
        (sevens, "digits", ("--method", "dreambooth"), "--method dreambooth needs --init"),
        (sevens, "digits", ("--method", "discriminative"), "needs --against"),
        (sevens, "digits", (*rival[:4], "--batch-size", "6"), "6; allowed: a multiple of 4"),
        (sevens, "digits", ("--against-images", "x"), "--against-images does not apply"),
        (
            sevens,
            "digits",
            (*rival, str(tmp_path / "absent")),
            "--against-images: folder not found",
        ),
        (sevens, "digits", (*rival, str(tmp_path / "empty")), "--against-images: no images in"),
        (sevens, "digits", (*rival, str(sevens)), "--against-images: images of the concept"),
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


def test_other_images_do_not_resume(
    folders: Folders, sevens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(others / "0.png")  # of one colour: without a rank hash
    rival = ("--method", "discriminative", "--against", "two", "--against-images", str(others))
    shown, out = shutil.copytree(sevens, tmp_path / "shown"), tmp_path / "c"
    assert run(shown, out, folders("sd1"), *rival) == 0
    (out / "concept.json").unlink()
    for path in (shown / "0.png", others / "0.png"):  # darker: the ranks of the pixels are equal
        before = path.read_bytes()
        with Image.open(path) as image:
            image.convert("RGB").point(lambda value: value // 2).save(path)
        assert path.read_bytes() != before
        assert run(shown, out, folders("sd1"), *rival) == 2
        assert "begun with other settings" in capsys.readouterr().err
        path.write_bytes(before)
    assert run(shown, out, folders("sd1"), *rival) == 0


def test_other_templates_of_the_model_do_not_resume(
    folders: Folders,
    sevens: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(sevens, tmp_path, folders("sd1")) == 0
    (tmp_path / "concept.json").unlink()
    monkeypatch.setattr(learning, "TEMPLATES", ("a sketch of {}",))
    assert run(sevens, tmp_path, folders("sd1")) == 2
    assert "'template': ['a sketch of {}']" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", [EMBEDDINGS, LORA, "README.md", "training/textual.pt", "training/prior.safetensors"]
)
def test_files_that_no_learning_began_stay_as_they_are(
    sevens: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"mine")
    assert run(sevens, tmp_path, "digits") == 2
    assert f"would overwrite or read: '{name}'" in capsys.readouterr().err
    assert path.read_bytes() == b"mine" and not (tmp_path / "concept.json").exists()


@pytest.mark.parametrize(
    ("family", "layers"), [("sd1", "attention"), ("sd1", "blocks"), ("sdxl", "blocks")]
)
def test_a_lora_loads_in_plain_diffusers_with_equal_outputs(
    folders: Folders, sevens: Path, tmp_path: Path, family: str, layers: str
) -> None:
    flags = ("--method", "dreambooth", "--init", "three", "--prior-images", "2", "--rank", "2")
    assert run(sevens, tmp_path, folders(family), *flags, "--lora-layers", layers) == 0
    changed = {name.split(".lora_")[0].rpartition(".")[2] for name in load_file(tmp_path / LORA)}
    assert ({"conv1", "conv2"} <= changed) == (layers == "blocks") and "to_q" in changed
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


@pytest.mark.parametrize("against", [None, ("two", "zero")])
def test_dreambooth_resumes_to_the_same_weights(
    folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    against: tuple[str, ...] | None,
) -> None:
    from contextlib import contextmanager

    from diffcls.training import loop

    settings = ConceptSettings(
        name=TOKEN,
        init="three",
        method="dreambooth",
        steps=4,
        batch_size=2,
        prior_images=2,
        rank=2,
        against=against,
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


def test_damaged_files_of_a_begun_learning_are_named_in_one_line(
    folders: Folders, sevens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--method", "dreambooth", "--init", "three", "--prior-images", "2", "--rank", "2")
    assert run(sevens, tmp_path, folders("sd1"), *flags) == 0
    (tmp_path / "concept.json").unlink()
    before = (tmp_path / LORA).read_bytes()
    for name, message in (
        ("dreambooth.pt", "a checkpoint of the training cannot be read"),
        ("prior.safetensors", "the generated images of the classes cannot be read"),
    ):
        path = tmp_path / "training" / name
        path.write_bytes(path.read_bytes()[:100])
        capsys.readouterr()
        assert run(sevens, tmp_path, folders("sd1"), *flags) == 1
        error = capsys.readouterr().err.strip()
        assert message in error and name in error and "\n" not in error
        path.unlink()
    assert run(sevens, tmp_path, folders("sd1"), *flags) == 0
    assert (tmp_path / LORA).read_bytes() == before


def test_unknown_layers_are_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"unknown choice of layers.*'heads'.*attention, blocks"):
        ConceptSettings(name=TOKEN, method="dreambooth", lora_layers="heads")


@pytest.mark.parametrize("against", [("two", TOKEN), ("two", "zero", " Two")])
def test_no_class_competes_with_itself(against: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--against: a class twice, or the concept itself"):
        ConceptSettings(name=TOKEN, method="discriminative", against=against)


def posterior_loss(
    model: Any, other: torch.Tensor | None = None, seed: int = 0
) -> tuple[PosteriorLoss, LearnedRows]:
    """The loss on three images of a concept that competes with two classes."""
    settings = ConceptSettings(
        name=TOKEN, method="discriminative", against=("two", "zero"), batch_size=8, seed=seed
    )
    x0 = torch.randn(3, *model.sample_shape, generator=torch.Generator().manual_seed(1))
    rows = LearnedRows(model, TOKEN, initial_vectors(model, TOKEN, "three", 1))
    task = LearningTask(model, TOKEN, x0, settings, ("a {}",), other)
    return PosteriorLoss(task, rows), rows


def plain_posterior(model: Any, draws: Any) -> np.ndarray:
    """(I,) posterior of the concept, from the outputs of the network alone."""
    from diffcls.diffusion.parameterization import PARAMETERIZATIONS
    from diffcls.metrics.calibration import posterior

    cond = model.encode_prompts([f"a {TOKEN}", "a two", "a zero"])
    # epsilon-prediction: ε̂ is the output; each image's errors are means over its own draws
    assert model.parameterization is PARAMETERIZATIONS["epsilon"]
    errors = np.zeros((len(draws.x0) // DRAWS, 3))
    for k in range(3):
        at = torch.full((len(draws.x0),), k)
        with torch.inference_mode():
            out = model.predict(draws.x_t, draws.levels.index, cond.rows(at))
        square = (out - draws.noise).square().flatten(1).mean(1)
        errors[:, k] = square.double().view(-1, DRAWS).mean(1)
    scale = float(np.prod(model.sample_shape)) / model.card.temperature
    return np.asarray(posterior(-errors, scale)[:, 0])


def test_log_odds_are_those_of_the_classifiers_posterior(folders: Folders) -> None:
    model: Any = loading.load(str(folders("sd1")))
    loss, rows = posterior_loss(model)
    draws = drawn(model, loss.task.x0, loss.images, DRAWS, torch.Generator().manual_seed(2))
    with rows.attached():
        odds = loss._log_odds(loss.task.x0, 0, torch.Generator().manual_seed(2)).detach()
        p = plain_posterior(model, draws)
    np.testing.assert_allclose(odds.numpy(), np.log(p) - np.log1p(-p), rtol=1e-3, atol=1e-2)


def test_the_loss_is_the_cross_entropy_on_images_of_the_concept_and_of_others(
    folders: Folders,
) -> None:
    model: Any = loading.load(str(folders("sd1")))
    other = torch.randn(5, *model.sample_shape, generator=torch.Generator().manual_seed(9))
    loss, rows = posterior_loss(model, other, seed=4)
    (row,) = rows.rows.values()
    with rows.attached():
        with torch.no_grad():
            row += 0.5  # away from the solution of textual inversion
        measured = float(loss(7).detach())
        rng = generator("discriminative", 4, 7)
        torch.randint(1, (1,), generator=rng)  # the template
        own = plain_posterior(model, drawn(model, loss.task.x0, loss.images, DRAWS, rng))
        rest = plain_posterior(model, drawn(model, other, loss.images, DRAWS, rng))
    expected = -np.log(own).mean() - np.log1p(-rest).mean() + NEARNESS * 0.25
    assert measured == pytest.approx(float(expected), rel=1e-3, abs=1e-2)


@pytest.mark.slow
def test_images_of_other_classes_change_what_is_learned(folders: Folders) -> None:
    def learned(seed: int | None) -> torch.Tensor:
        model: Any = loading.load(str(folders("sd1")))
        rng = torch.Generator().manual_seed(0)
        x0 = torch.randn(2, *model.sample_shape, generator=rng)
        settings = ConceptSettings(
            name=TOKEN, init="three", method="discriminative", against=("two",), steps=2
        )
        other = None
        if seed is not None:
            rng = torch.Generator().manual_seed(seed)
            other = torch.randn(2, *model.sample_shape, generator=rng)
        (vectors,) = learn(model, settings, x0, other).vectors.values()
        return vectors

    without, one, same, another = map(learned, (None, 1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, without) and not torch.equal(one, another)


def test_the_card_tells_how_many_images_of_other_classes_there_were(
    folders: Folders, sevens: Path, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    items = [item for item in load_dataset("digits", "train").items if item.label == 1][:3]
    for number, item in enumerate(items):
        item.open().save(others / f"{number}.png")
    flags = ("--method", "discriminative", "--against", "two", "--against-images", str(others))
    assert run(sevens, tmp_path / "c", folders("sd1"), *flags) == 0
    card = json.loads((tmp_path / "c/concept.json").read_text(encoding="utf-8"))
    assert card["images"]["count"] == 4 and card["against_images"]["count"] == 3


def test_reports_state_both_phases_in_order_of_time(
    folders: Folders, sevens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c"
    flags = ("--method", "discriminative", "--against", "two", "--batch-size", "8")
    assert run(sevens, out, folders("sd1"), *flags) == 0
    card = json.loads((out / "concept.json").read_text(encoding="utf-8"))
    last = read_curve(out / "training/discriminative-curve.jsonl")[-1]["loss"]
    assert f"loss {last:.4f}" in capsys.readouterr().out
    assert card["curves"]["textual"][-1]["loss"] != last and [*card["curves"]] == [*card["phases"]]
    stated = "textual: 2 steps of 8 images; discriminative: 2 steps of 2 images with 4 draws each"
    assert stated in " ".join((out / "README.md").read_text(encoding="utf-8").split())
    model: Any = loading.load(str(folders("sd1")))
    loss, _ = posterior_loss(model)  # of a batch of 8 as well
    draws = drawn(model, loss.task.x0, loss.images, DRAWS, torch.Generator().manual_seed(0))
    phase = card["phases"]["discriminative"]
    assert len(draws.x0) == phase["images"] * phase["draws"]


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
