"""The command ``python -m diffcls.likelihood``: terms, options, rows and errors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from helpers import tiny_families
from helpers.refusals import refusal

from diffcls import likelihood
from diffcls.data.load import load_dataset
from diffcls.data.subsets import choose
from diffcls.data.transforms import load_image, to_pixels
from diffcls.diffusion.bound import bits_per_dim, discretised_decoder, gaussian_decoder
from diffcls.generation import dataset_likelihood
from diffcls.generation import likelihood as likelihoods
from diffcls.generation.likelihood import Estimator
from diffcls.models import loading
from diffcls.models.families.base import PipelineDenoiser
from diffcls.runs import fidelity_table

Capture = pytest.CaptureFixture[str]
FEW = ("--limit", "8", "--levels", "3")


def make_pixel_model(folder: Path, build: Any, classes: int = 0, **card: Any) -> Path:
    """Pixel-space model with random weights, and a card with its classes."""
    tiny_families.save(build, folder)
    card_with_name = {"name": folder.name, "labels": list(map(str, range(classes))), **card}
    (folder / "diffcls.json").write_text(json.dumps(card_with_name))
    return folder


def of_learned_variance() -> Any:
    """Pixel-space model whose network also predicts the variance of each channel."""
    from diffusers import UNet2DModel

    pipeline = tiny_families.unconditional()
    config = {**pipeline.unet.config, "out_channels": 6}
    pipeline.unet = UNet2DModel.from_config(config)
    return pipeline


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    of_digits = {"trained_on": ["digits"]}
    make_pixel_model(folder / "pixels", tiny_families.class_unet, 10, images=1200, **of_digits)
    make_pixel_model(folder / "free", tiny_families.unconditional, **of_digits)
    make_pixel_model(folder / "learned", of_learned_variance, **of_digits)
    make_pixel_model(folder / "stranger", tiny_families.unconditional)
    make_pixel_model(folder / "flow", tiny_families.unconditional, **of_digits)
    FlowMatchEulerDiscreteScheduler(shift=1.0).save_pretrained(folder / "flow" / "scheduler")
    index = json.loads((folder / "flow" / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (folder / "flow" / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "out" / "fidelity.csv"


Bound = Callable[..., dict[str, Any]]


@pytest.fixture
def bound(table: Path, models: Path, capsys: Capture) -> Bound:
    """Run the command, by default with a small pixel-space model; returns its JSON."""

    def run(*flags: object, model: str = "pixels", status: int = 0, notices: str = "") -> Any:
        name = str(models / model) if (models / model).is_dir() else model
        fixed = ["--model", name, "--output-dir", str(table.parent), "--json", "--quiet"]
        few = FEW if not {"--limit", "--levels"} & set(flags) else ()
        assert likelihood.main([*fixed, *few, *map(str, flags)]) == status
        printed, err = capsys.readouterr()
        assert err == notices
        return json.loads(printed, parse_constant=pytest.fail)  # NaN is no JSON

    return run


def estimated(model: str, limit: int, estimator: Estimator, conditional: bool = False) -> Any:
    """(n, 4) terms of the same images, by the library's own function."""
    denoiser = loading.load(model)
    data, _ = choose(load_dataset("digits"), limit)
    pixels = [to_pixels(load_image(item.open()), denoiser.image_size) for item in data.items]
    x0 = denoiser.encode_images(torch.from_numpy(np.stack(pixels)))
    received = [str(item.label) if conditional else "" for item in data.items]
    cond = denoiser.encode_prompts(received)
    return likelihoods.estimate(
        denoiser, x0, [item.image_id for item in data.items], cond, estimator
    )


# ---- the figures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["none", "class"])
def test_figures_are_those_of_the_estimator(bound: Bound, models: Path, condition: str) -> None:
    result = bound("--condition", condition, "--seed", "4", *FEW)
    estimator = Estimator(discretised_decoder(), "large", 3, clip=True, seed=4)
    terms = estimated(str(models / "pixels"), 8, estimator, condition == "class")
    mine = bits_per_dim(terms[:, :3], 3 * 16 * 16)
    assert [result["terms"][name] for name in ("prior", "steps", "decoder")] == pytest.approx(
        mine.mean(axis=0).tolist(), rel=1e-5
    )
    assert result["value"] == pytest.approx(mine.sum(axis=1).mean(), rel=1e-5)
    assert result["stderr"] == pytest.approx(mine.sum(axis=1).std(ddof=1) / 8**0.5, rel=1e-4)
    assert result["l_simple"] == pytest.approx(terms[:, 3].mean(), rel=1e-5)
    assert (result["n"], result["steps"], result["status"]) == (8, 3, "complete")


def test_figures_of_latents_are_those_of_the_estimator(bound: Bound) -> None:
    result = bound("--limit", "4", "--levels", "2", "--variance", "small", model="digits")
    terms = estimated("digits", 4, Estimator(gaussian_decoder, "small", 2))
    mine = bits_per_dim(terms[:, :3].sum(axis=1), 4 * 8 * 8)
    assert result["value"] == pytest.approx(mine.mean(), rel=1e-5)


@pytest.mark.parametrize("model", ["pixels", "learned", "digits"])
def test_terms_add_up_to_the_bound(bound: Bound, model: str) -> None:
    result = bound(*FEW, model=model)
    assert sum(result["terms"].values()) == pytest.approx(result["value"], rel=1e-9)
    assert list(result["terms"]) == ["prior", "steps", "decoder"]


def test_printed_terms_add_up_to_the_printed_bound(
    bound: Bound, models: Path, table: Path, capsys: Capture
) -> None:
    result = bound(*FEW)
    flags = ["--model", str(models / "pixels"), "--output-dir", str(table.parent), "--quiet"]
    assert likelihood.main([*flags, *FEW]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pixels on digits (test), 8 images"
    found = dict(re.match(r"  (L_T|sum L_t-1|L_0|bound|L_simple) +(\S+)", x).groups()  # type: ignore[union-attr]
                 for x in lines[1:6])  # fmt: skip
    figures = {name: float(number) for name, number in found.items()}
    parts = [figures[name] for name in ("L_T", "sum L_t-1", "L_0")]
    assert sum(parts) == pytest.approx(figures["bound"], abs=2e-4)
    assert figures["bound"] == pytest.approx(result["value"], abs=1e-4)
    assert f"± {result['stderr']:.4f} bits per dimension of pixels-3x16x16" in lines[4]
    assert lines[6:] == [f"complete: {table}"]


def test_figures_do_not_depend_on_batches_but_on_the_seed(
    bound: Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bound(*FEW)["value"]
    assert bound(*FEW, "--batch-size", "5")["value"] == pytest.approx(whole, rel=1e-5)
    monkeypatch.setattr(dataset_likelihood, "IMAGES_PER_CHUNK", 3)
    assert bound(*FEW)["value"] == pytest.approx(whole, rel=1e-5)
    assert bound(*FEW, "--seed", "1")["value"] != pytest.approx(whole, rel=1e-5)


def test_condition_class_gives_another_bound_and_a_row_of_its_own(
    bound: Bound, table: Path
) -> None:
    unconditional, conditional = (
        bound("--condition", "none", *FEW),
        bound("--condition", "class", *FEW),
    )
    assert unconditional["value"] != pytest.approx(conditional["value"], rel=1e-4)
    rows = fidelity_table.read(table)
    # as samples are guided: 0 asks the empty prompt alone, 1 that of the class
    assert [(row["guidance"], row["value"]) for row in rows] == [
        ("0", f"{unconditional['value']:.6g}"),
        ("1", f"{conditional['value']:.6g}"),
    ]


@pytest.mark.parametrize(("old", "new"), [("nothing", "none"), ("class", "class")])
def test_former_spelling_of_condition_is_accepted(bound: Bound, old: str, new: str) -> None:
    assert bound("--told", old, *FEW) == bound("--condition", new, *FEW)


def test_default_variance_is_the_learned_one(bound: Bound) -> None:
    learned, large, small = (
        bound(*FEW, *flags, model="learned")
        for flags in ((), ("--variance", "large"), ("--variance", "small"))
    )
    assert learned["variance"] == "learned"
    assert len({round(result["value"], 6) for result in (learned, large, small)}) == 3
    assert bound(*FEW)["variance"] == "large"  # of a model that learned none


def test_condition_of_an_image_with_candidates_of_its_own_is_its_own_sentence(
    bound: Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[str] = []
    encode = PipelineDenoiser.encode_prompts

    def spy(self: Any, prompts: Any) -> Any:
        received.extend(prompts)
        return encode(self, prompts)

    monkeypatch.setattr(PipelineDenoiser, "encode_prompts", spy)
    for split in ("test", "validation"):  # their sentences differ
        received.clear()
        flags = ("--dataset", "scenes/pairs", "--split", split, "--condition", "class")
        bound(*flags, "--limit", "6", "--levels", "1", model="scenes")
        data, _ = choose(load_dataset("scenes/pairs", split), 6)
        own = [f"a picture of {data.class_names[item.class_index]}." for item in data.items]
        assert received[-6:] == own


# ---- what is written -----------------------------------------------------------------------------


def test_row_has_the_columns_of_the_contract(bound: Bound, table: Path) -> None:
    result = bound(*FEW)
    (row,) = fidelity_table.read(table)
    assert row == {
        "model": "pixels",
        "dataset": "digits",
        "split": "test",
        "metric": "bits_per_dim",
        "extractor": "pixels-3x16x16",
        "n": "8",
        "value": f"{result['value']:.6g}",
        "stderr": f"{result['stderr']:.6g}",
        "guidance": "0",
        "steps": "3",
        "training_images": "1200",
        "accuracy": "",
    }
    bound(*FEW, "--seed", "1")  # measured again: the row is replaced
    (again,) = fidelity_table.read(table)
    assert again["value"] != row["value"]
    assert again == {**row, "value": again["value"], "stderr": again["stderr"]}


def test_density_of_latents_is_labelled_as_such(bound: Bound, table: Path, capsys: Capture) -> None:
    assert bound(*FEW, model="digits")["extractor"] == "latents-4x8x8-of-digits"
    (row,) = fidelity_table.read(table)
    assert row["extractor"] == "latents-4x8x8-of-digits"
    flags = ["--model", "digits", "--output-dir", str(table.parent), "--quiet", *FEW]
    assert likelihood.main(flags) == 0
    assert "a density of latents, not of images" in capsys.readouterr().out


def test_standard_error_of_a_single_image_is_null(
    bound: Bound, models: Path, table: Path, capsys: Capture
) -> None:
    flags = ("--limit", "1", "--levels", "2")
    assert bound(*flags)["stderr"] is None
    (row,) = fidelity_table.read(table)
    assert row["stderr"] == "" and math.isfinite(float(row["value"]))
    fixed = ["--model", str(models / "pixels"), "--output-dir", str(table.parent), "--quiet"]
    assert likelihood.main([*fixed, *flags]) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed and "±" not in printed


def test_limit_above_the_number_of_images_takes_all(bound: Bound, tmp_path: Path) -> None:
    for k, item in enumerate(load_dataset("digits").items[:6]):
        (tmp_path / "set" / str(k % 2)).mkdir(parents=True, exist_ok=True)
        item.open().save(tmp_path / "set" / str(k % 2) / f"{k}.png")
    flags = ("--dataset", f"folder:{tmp_path / 'set'}", "--limit", "100", "--levels", "1")
    result = bound(*flags, notices="diffcls: 2 classes: 0, 1\n")
    assert (result["n"], result["dataset"]) == (6, "folder:set")


# ---- stopped -------------------------------------------------------------------------------------


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Ctrl-C after a number of chunks of 3 images."""
    whole = likelihoods.estimate

    def arrange(chunks: int) -> None:
        done = 0

        def estimate(*args: Any) -> Any:
            nonlocal done
            if done == chunks:
                raise KeyboardInterrupt
            done += 1
            return whole(*args)

        monkeypatch.setattr(likelihoods, "estimate", estimate)
        monkeypatch.setattr(dataset_likelihood, "IMAGES_PER_CHUNK", 3)

    return arrange


def test_interrupted_command_prints_a_partial_result_and_writes_nothing(
    bound: Bound, models: Path, table: Path, stop_after: Any, capsys: Capture
) -> None:
    estimator = Estimator(discretised_decoder(), "large", 3, clip=True)
    terms = estimated(str(models / "pixels"), 8, estimator)[:6]
    stop_after(2)
    result = bound(*FEW, status=130)
    assert (result["status"], result["n"]) == ("partial", 6)
    mine = bits_per_dim(terms[:, :3].sum(axis=1).mean(), 3 * 16 * 16)
    assert result["value"] == pytest.approx(mine, rel=1e-5)
    assert not table.exists()

    stop_after(1)
    flags = ["--model", str(models / "pixels"), "--output-dir", str(table.parent), "--quiet"]
    assert likelihood.main([*flags, *FEW]) == 130
    printed, err = capsys.readouterr()
    assert "pixels on digits (test), 3 images" in printed and err == ""
    assert printed.endswith("interrupted: the images finished so far; nothing was written\n")
    assert not table.exists()


def test_interruption_before_the_first_image_is_reported(
    models: Path, table: Path, stop_after: Any, capsys: Capture
) -> None:
    stop_after(0)
    flags = ["--model", str(models / "pixels"), "--output-dir", str(table.parent), "--quiet"]
    assert likelihood.main([*flags, *FEW]) == 130
    printed, err = capsys.readouterr()
    assert printed == "" and "interrupted" in err and "Traceback" not in err
    assert not table.exists()


# ---- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def refused(
    table: Path, models: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run the command with bad flags; returns its one line on stderr."""

    def never(*_: Any) -> None:
        raise AssertionError("measured all the same")

    monkeypatch.setattr(likelihoods, "estimate", never)

    def run(flags: str, model: str = "pixels", status: int = 2) -> str:
        name = str(models / model) if (models / model).is_dir() else model
        fixed = ["--model", name, "--output-dir", str(table.parent), "--quiet"]
        return refusal(likelihood.main, [*fixed, *flags.split()], None, capsys, status)

    return run


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--condition clas", "unknown condition: 'clas'; allowed: none, class|'class'?"),
        ("--variance medium", "unknown variance of the reverse step: 'medium'; allowed: small,"),
        (
            "--variance learned",
            "--variance learned needs a model that learned it: 'pixels'; allowed",
        ),
        ("--limit 0", "--limit out of range: 0; allowed: 1 to"),
        ("--levels 0", "--levels out of range: 0; allowed: 1 to"),
        ("--batch-size -1", "--batch-size out of range: -1; allowed: 1 to"),
        ("--threads 0", "threads out of range: 0; allowed: 1 to"),
        ("--levels many", "--levels: not a whole number: 'many'; see diffcls likelihood --help"),
        ("--model no-such", "unknown model: 'no-such'; allowed: |digits|PATH"),
        ("--dataset digit", "unknown dataset: 'digit'; allowed: digits"),
        ("--split tets", "unknown split of digits: 'tets'; allowed: test, validation, train"),
        ("--device gpu", "unknown device: 'gpu'; allowed: auto, cpu"),
        (
            "--condition class --dataset scenes/counting",
            "none of the model's classes|allowed: 0, 1, 2, 3",
        ),
        ("--lim 5", "--lim"),
    ],
)
def test_bad_usage_is_named_and_nothing_is_written(
    refused: Callable[..., str], table: Path, flags: str, message: str
) -> None:
    error = refused(flags)
    for part in message.split("|"):
        assert part in error
    assert not table.parent.exists()


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        ("flow", "", "likelihood does not support flow models: 'flow'; allowed: models with"),
        (
            "free",
            "--condition class",
            "--condition class needs a class-conditional one: 'free'",
        ),
        ("stranger", "", "names no training data set: 'stranger'; add --dataset"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused_and_nothing_is_written(
    refused: Callable[..., str], table: Path, model: str, flags: str, message: str
) -> None:
    assert message in refused(flags, model)
    assert not table.parent.exists()


def test_foreign_table_is_an_error_before_the_measurement(
    refused: Callable[..., str], table: Path
) -> None:
    table.parent.mkdir()
    table.write_text("mine,all mine\n")
    message = refused("", status=1)
    assert "not a fidelity table" in message and str(table) in message
    assert table.read_text() == "mine,all mine\n"


def test_unwritable_folder_is_an_error_before_the_measurement(
    refused: Callable[..., str], table: Path
) -> None:
    table.parent.write_text("a file")
    assert "cannot be written" in refused("")
    assert table.parent.read_text() == "a file"
