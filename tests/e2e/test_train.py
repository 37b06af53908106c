"""The command ``python -m diffcls.train`` on a tiny recipe: files, errors and resumption."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.interrupted_trainings import interrupt_calls

from diffcls import train
from diffcls.classifiers import validation
from diffcls.data import catalog
from diffcls.models import loading
from diffcls.models.denoiser import ModelCard
from diffcls.models.small_stable_diffusion import TinyConfig
from diffcls.search.exhaustive import Exhaustive
from diffcls.support.errors import UsageError
from diffcls.training import kinds, latent_diffusion, options, recipe_table
from diffcls.training.loop import Loop
from diffcls.training.recipes import Recipe

SMALL = Recipe(
    config=TinyConfig(
        vae_channels=(8, 8, 8), unet_channels=(8, 16), text_width=16, text_layers=1, vocabulary=600
    ),
    copies=2,
    vae_images=128,
    images=256,
    batch=32,
)


@pytest.fixture(autouse=True)
def _of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipe_table.RECIPES, "digits", SMALL)  # type: ignore[misc]
    monkeypatch.setattr(latent_diffusion, "VOCABULARY_CAPTIONS", 300)
    # an untrained model keeps every race open to its end
    monkeypatch.setattr(validation, "Racing", lambda *_: Exhaustive(draws=1))


def run(folder: Path, *flags: str) -> int:
    return train.main(["--output-dir", str(folder), "--quiet", *flags])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a model, without those of its snapshots; or of a snapshot."""
    from safetensors.torch import load_file

    files = sorted(folder.rglob("*.safetensors"))
    own = [f for f in files if "training" not in f.relative_to(folder).parts]
    return {f"{f.parent.name}.{k}": v for f in own for k, v in load_file(f).items()}


def test_flags_without_values_keep_the_defaults_of_the_options() -> None:
    given = vars(train.parser().parse_args(["--quiet", "--learned-variance"]))
    assert options.TrainingOptions(**given) == options.TrainingOptions(
        quiet=True, learned_variance=True
    )
    assert sorted(given) == ["json", "learned_variance", "output_dir", "quiet"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_killed_twice_ends_at_the_same_weights(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(shelf / "whole") == 0
    said = capsys.readouterr().out
    assert "test accuracy" in said
    assert "500 held-out images" in said

    interrupt_calls(monkeypatch, Loop, "_one_step", {3, 8})  # once in each phase
    assert [run(shelf / "cut") for _ in range(3)] == [130, 130, 0]
    whole, cut = weights(shelf / "whole"), weights(shelf / "cut")
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)

    other = shelf / "seed"
    assert run(other, "--seed", "1") == 0
    assert any(not torch.equal(whole[name], tensor) for name, tensor in weights(other).items())

    folder = shelf / "whole" / "digits"
    card = json.loads((folder / loading.CARD).read_text(encoding="utf-8"))
    assert card["trained_on"] == ["digits"]
    assert card["recipe"]["images"] == SMALL.images
    assert loading.load(str(folder)).card.temperature == card["temperature"]

    capsys.readouterr()
    assert run(shelf / "whole") == 2
    assert "already contains a trained model" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_finished_model_can_be_fine_tuned(shelf: Path) -> None:
    begun = shelf / "whole" / "digits"
    if not begun.exists():
        assert run(shelf / "whole") == 0
    assert run(shelf / "more", "--init", str(begun)) == 0
    card = json.loads((shelf / "more/digits" / loading.CARD).read_text(encoding="utf-8"))
    before = loading.read_card(loading.find(str(begun)))
    assert card["continued_from"]["revision"] == before.revision
    assert card["continued_from"]["images"] == SMALL.images
    first, then = weights(begun), weights(shelf / "more" / "digits")
    assert first.keys() == then.keys()
    # the autoencoder is unchanged, the denoiser is trained further
    same = {name for name in first if torch.equal(first[name], then[name])}
    assert {name for name in first if name.startswith("vae.")} <= same
    assert not {name for name in first if name.startswith("unet.")} <= same
    assert "Fine-tuned from `digits`" in (shelf / "more/digits/README.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
def test_stopped_training_loses_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    one_step = Loop._one_step

    def step(loop: Loop) -> torch.Tensor:
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)  # in the middle of the third one
        steps.append(loop.step)
        return one_step(loop)

    monkeypatch.setattr(Loop, "_one_step", step)
    before = signal.getsignal(signal.SIGINT)
    assert run(tmp_path) == 130
    assert steps == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is before
    assert run(tmp_path) == 0
    assert steps[:5] == [0, 1, 2, 3, 0]  # none twice: four of the autoencoder, then the denoiser


@pytest.mark.slow
def test_each_point_of_the_curve_leaves_a_snapshot_that_can_be_loaded(tmp_path: Path) -> None:
    assert run(tmp_path, "--points", "2") == 0
    folder = tmp_path / "digits"
    half, whole = sorted((folder / "training" / "snapshots").iterdir())
    assert (half.name, whole.name) == ("00000128", "00000256")
    model, last, first = weights(folder), weights(whole), weights(half)
    # both points have averaged weights, and the last ones are the model's
    assert last.keys() == model.keys() == first.keys()
    assert all(torch.equal(last[name], model[name]) for name in model)
    assert any(not torch.equal(first[name], model[name]) for name in model)
    card = loading.load(str(half)).card
    assert card.name == "digits@128" and card.trained_on == ("digits",)


@pytest.mark.slow
def test_data_on_the_device_and_captions_of_a_pool_resume_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(SMALL, on_device=True, caption_pool=3, lateness=5.0, vae_batch=16)
    monkeypatch.setitem(recipe_table.RECIPES, "digits-long", long)  # type: ignore[misc]
    assert run(tmp_path / "whole", "--recipe", "long") == 0
    one_step, steps = Loop._one_step, 0

    def interrupted(loop: Loop) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 12:  # in the denoiser's phase, after eight steps of the autoencoder
            os.kill(os.getpid(), signal.SIGINT)
        return one_step(loop)

    monkeypatch.setattr(Loop, "_one_step", interrupted)
    assert [run(tmp_path / "cut", "--recipe", "long") for _ in range(2)] == [130, 0]
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_training_does_not_resume_with_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(loop: Loop) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "_one_step", stopped)
    assert run(tmp_path) == 130
    assert run(tmp_path, "--images", "512") == 2
    said = capsys.readouterr().err
    assert "training with another recipe" in said
    assert "'images': 256" in said
    assert run(tmp_path, "--seed", "1") == 2


def test_only_a_model_with_its_card_is_finished_and_a_foreign_one_is_left_alone(
    tmp_path: Path,
) -> None:
    def begin(name: str) -> latent_diffusion.LatentTraining:
        return latent_diffusion.LatentTraining("digits", SMALL, 0, tmp_path / name)

    begin("ours").begin()
    (tmp_path / "ours" / "model_index.json").write_text("{}")  # killed before the card was there
    begin("ours")
    (tmp_path / "ours" / loading.CARD).write_text("{}")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model_index.json").write_text("{}")
    for name in ("ours", "theirs"):
        with pytest.raises(UsageError, match="already contains a trained model"):
            begin(name)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dataset", "digit"], "did you mean 'digits'"),
        (["--images", "0"], "--images out of range"),
        (["--learning-rate", "-1"], "--learning-rate out of range"),
        (["--epochs", "3"], "unknown flag: '--epochs'"),
        (["--model", "clips"], "did you mean 'clip'"),
        (["--init", "digit"], "did you mean 'digits'"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert run(tmp_path, *flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err


GENERAL = [kind for kind, row in kinds.KINDS.items() if row.fallback]


@pytest.mark.parametrize("kind", GENERAL)
def test_every_data_set_with_a_training_split_can_be_learned(kind: str) -> None:
    recipe_kinds = set()
    for name, spec in catalog.SPECS.items():
        if set(kinds.KINDS[kind].splits) <= set(spec.splits) and not name.startswith("scenes/"):
            assert options.full_name(name, kind) == name
            recipe_kinds.add(type(options.recipe_of(kind, name)))
        else:
            with pytest.raises(UsageError):
                options.full_name(name, kind)
    assert len(recipe_kinds) == 1
    # its own recipe where it has one, the common one elsewhere
    own, other = kinds.KINDS[kind].recipes, getattr(recipe_table, kinds.KINDS[kind].fallback)
    assert own and all(options.recipe_of(kind, name) is own[name] for name in own)
    assert options.recipe_of(kind, "flowers102") is other


@pytest.mark.parametrize("kind", sorted(set(kinds.KINDS) - set(GENERAL)))
def test_a_kind_without_a_common_recipe_is_learned_on_its_own_data_sets(kind: str) -> None:
    own = kinds.KINDS[kind].recipes
    assert own and all(options.recipe_of(kind, name) is own[name] for name in own)
    for name in sorted(set(catalog.SPECS) - set(own)):
        with pytest.raises(UsageError, match=f"--model {kind} needs .* allowed: "):
            options.recipe_of(kind, name)


def test_what_holds_combinations_out_is_learned_without_them() -> None:
    # their own training splits show all combinations, for the methods that learn from labels
    for name in ("scenes/attributes", "scenes/held-out", "scenes:200"):
        with pytest.raises(UsageError, match="allowed: scenes"):
            options.full_name(name, "pixels")
    run = latent_diffusion.LatentTraining.trained_on
    learned = SimpleNamespace(dataset="scenes", init=None)
    scenes = run(learned, SimpleNamespace(name="scenes"))  # type: ignore[arg-type]
    card = ModelCard("scenes", "", trained_on=tuple(scenes))
    seen = {name for name in catalog.SPECS if name.startswith("scenes/") and card.has_seen(name)}
    assert seen == {f"scenes/{task}" for task in ("attributes", "relations", "counting", "pairs")}
    assert card.has_seen("scenes:200")


def test_the_command_is_said_without_what_decides_nothing() -> None:
    asked = "--dataset digits --model pixels --images 64 --no-conditional --seed 3"
    local = "--output-dir elsewhere --threads 1 --quiet --data-root here"
    flags = train.parser().parse_args(f"{asked} {local}".split())
    words = options.TrainingOptions(**vars(flags)).command().split()
    assert words[:3] == ["python", "-m", "diffcls.train"]
    assert vars(train.parser().parse_args(words[3:])) == vars(
        train.parser().parse_args(asked.split())
    )
    assert len(words) == 3 + len(asked.split())


def test_data_of_a_person_s_own_is_called_as_its_folder() -> None:
    assert options.short_name("folder:some/where/cats/") == "cats"
    assert options.short_name("hf:owner/cats@main") == "cats"
