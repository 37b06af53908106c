"""The command ``python -m diffcls.fidelity``: values against closed forms, rows and errors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_families
from helpers.refusals import refusal
from torch import Tensor

from diffcls import fidelity
from diffcls.data.load import load_dataset
from diffcls.data.subsets import choose
from diffcls.data.transforms import load_image, to_pixels
from diffcls.generation import sample as sampling
from diffcls.generation.fidelity_options import METRICS
from diffcls.generation.sample import Batch
from diffcls.models import feature_extractors
from diffcls.models.feature_extractors import Extractor
from diffcls.runs import fidelity_table

Capture = pytest.CaptureFixture[str]
WIDTH = 2


def make_pixel_model(folder: Path, build: Any, classes: int = 0, **card: Any) -> Path:
    """Pixel-space model with random weights, and a card with its classes."""
    tiny_families.save(build, folder)
    card_with_name = {"name": folder.name, "labels": list(map(str, range(classes))), **card}
    (folder / "diffcls.json").write_text(json.dumps(card_with_name))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    of_digits = {"trained_on": ["digits"]}
    make_pixel_model(folder / "pixels", tiny_families.class_unet, 10, images=1200, **of_digits)
    make_pixel_model(folder / "free", tiny_families.unconditional, **of_digits)
    make_pixel_model(folder / "stranger", tiny_families.unconditional)
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "out" / "fidelity.csv"


class TwoFeatures:
    """Feature extractor of two features per image, which counts its images."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images)
        flat = images.flatten(1)
        features = torch.stack([flat.mean(dim=1), flat.std(dim=1)], dim=1)
        return features, features @ torch.eye(2, 10)


@pytest.fixture
def extractor(monkeypatch: pytest.MonkeyPatch) -> TwoFeatures:
    """Replace CLIP by a fast feature extractor."""
    extractor = TwoFeatures()
    monkeypatch.setattr(
        feature_extractors, "load", lambda *_: Extractor("extractor-2", "1", WIDTH, extractor)
    )
    return extractor


Measure = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def measure(table: Path, models: Path, capsys: Capture) -> Measure:
    """Run the command, by default with a small pixel-space model; returns its JSON."""

    def run(*flags: object, model: str = "pixels") -> Any:
        fixed = ["--model", str(models / model), "--output-dir", str(table.parent), "--json"]
        few = [] if "--count" in flags else ["--count", "40"]
        quick = ["--steps", "1", "--quiet"]
        assert fidelity.main([*fixed, *few, *quick, *map(str, flags)]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # NaN is no JSON

    return run


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of real digits, 8 of each class."""
    root, held = tmp_path_factory.mktemp("even"), Counter[int]()
    for item in load_dataset("digits").items:
        if held[item.label] < 8:
            (root / str(item.label)).mkdir(exist_ok=True)
            item.open().save(root / str(item.label) / f"{held[item.label]}.png")
            held[item.label] += 1
    return root


def draws_the_real_ones(root: Path) -> Callable[..., Iterator[Batch]]:
    """Perfect generator: returns the real images of each requested class."""

    def sample(
        denoiser: Any, prompts: Sequence[str], numbers: Any, batch_size: int = 64, **_: Any
    ) -> Iterator[Batch]:
        taken, images = Counter[str](), []
        for name in prompts:
            image = load_image(root / name / f"{taken[name]}.png")
            images.append(torch.from_numpy(to_pixels(image, denoiser.image_size)))
            taken[name] += 1
        yield from map(Batch, torch.stack(images).split(batch_size))

    return sample


# ---- the figures ---------------------------------------------------------------------------------


def test_distance_of_real_images_from_themselves_is_zero(
    measure: Measure, even: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--dataset", f"folder:{even}", "--extractor", "clip-digits", "--count", "80")
    random = {row["metric"]: row for row in measure(*flags)}
    monkeypatch.setattr(sampling, "sample", draws_the_real_ones(even))
    found = {row["metric"]: row for row in measure(*flags)}
    assert found["FID"]["value"] < 1e-4
    assert found["precision"]["value"] == found["recall"]["value"] == 1.0
    # unbiased: its mean over subsets lies about 0, as far as these tell
    assert abs(found["KID"]["value"]) < 4 * found["KID"]["stderr"]
    # CLIP separates the ten classes of real images
    assert 3 * random["IS"]["value"] < found["IS"]["value"] <= 10
    # what an untrained network draws is far from all that
    assert random["FID"]["value"] > 10 and random["precision"]["value"] < 0.1
    assert random["KID"]["value"] > 10 * abs(found["KID"]["value"])
    assert all(row["extractor"] == "clip-digits-128" for row in found.values())
    assert all(row["n"] == 80 and row["dataset"].startswith("folder:") for row in found.values())


def test_requested_metrics_are_returned_in_the_order_of_the_table(
    measure: Measure, extractor: TwoFeatures
) -> None:
    assert [row["metric"] for row in measure()] == list(METRICS)
    assert [row["metric"] for row in measure("--metrics", "recall", "FID")] == ["FID", "recall"]
    whole = {row["metric"]: row["value"] for row in measure()}
    for name in METRICS:  # alone or in company
        (row,) = measure("--metrics", name)
        assert row["value"] == whole[name]


def test_equally_many_images_of_each_class_are_generated(
    measure: Measure, extractor: TwoFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    whole = sampling.sample

    def spy(denoiser: Any, prompts: Sequence[str], numbers: Any, **options: Any) -> Any:
        asked.append((Counter(prompts), list(numbers), options["scale"]))
        return whole(denoiser, prompts, numbers, **options)

    monkeypatch.setattr(sampling, "sample", spy)
    rows = measure("--count", "23", "--guidance", "1", "3", "--metrics", "FID")
    (counts, numbers, _), _ = asked
    assert sorted(counts.values()) == [2] * 7 + [3] * 3 and numbers == list(range(23))
    assert [scale for *_, scale in asked] == [row["guidance"] for row in rows] == [1.0, 3.0]
    assert extractor.seen == 23 + 2 * 23  # the real ones once


def test_split_with_fewer_images_is_taken_whole(
    measure: Measure, extractor: TwoFeatures, even: Path
) -> None:
    (row,) = measure("--dataset", f"folder:{even}", "--count", "500", "--metrics", "FID")
    assert row["n"] == 80 and extractor.seen == 2 * 80


def test_figures_do_not_depend_on_batches_but_on_the_seed(
    measure: Measure, extractor: TwoFeatures
) -> None:
    flags = ("--metrics", "FID")
    (one,), (other,) = measure(*flags), measure(*flags, "--batch-size", "7")
    assert one["value"] == pytest.approx(other["value"], rel=1e-4)
    (another,) = measure(*flags, "--seed", "1")
    assert another["value"] != pytest.approx(one["value"], rel=1e-4)


def test_features_of_real_images_are_extracted_once(
    measure: Measure, extractor: TwoFeatures, table: Path
) -> None:
    first = measure("--metrics", "FID")
    assert extractor.seen == 80
    assert measure("--metrics", "FID") == first
    assert extractor.seen == 80 + 40
    (kept,) = (table.parent / "fits").glob("real-*.npz")
    with np.load(kept) as stored:
        data, _ = choose(load_dataset("digits"), 40)
        assert stored["labels"].tolist() == [item.label for item in data.items]
        assert stored["features"].shape == (40, WIDTH)


def test_class_of_an_image_with_candidates_of_its_own_is_one_of_all(
    table: Path, extractor: TwoFeatures
) -> None:
    flags = ["--model", "scenes", "--dataset", "scenes/pairs", "--output-dir", str(table.parent)]
    flags += ["--count", "10", "--steps", "1", "--quiet", "--metrics", "FID"]
    assert fidelity.main(flags) == 0
    (kept,) = (table.parent / "fits").glob("real-*.npz")
    with np.load(kept) as stored:
        data, _ = choose(load_dataset("scenes/pairs"), 10)
        assert stored["labels"].tolist() == [item.class_index for item in data.items]


# ---- output and table ----------------------------------------------------------------------------


def test_table_has_the_columns_of_the_contract(
    measure: Measure, extractor: TwoFeatures, table: Path
) -> None:
    results = measure("--guidance", "1.5")
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[0] == (
        "model,dataset,split,metric,extractor,n,value,stderr,guidance,steps,training_images,"
        "accuracy"
    )
    for row, expected in zip(fidelity_table.read(table), results, strict=True):
        assert row == {
            "model": "pixels",
            "dataset": "digits",
            "split": "test",
            "metric": expected["metric"],
            "extractor": "extractor-2",
            "n": "40",
            "value": f"{expected['value']:.6g}",
            "stderr": f"{expected['stderr']:.6g}" if expected["stderr"] is not None else "",
            "guidance": "1.5",
            "steps": "1",
            "training_images": "1200",
            "accuracy": "",
        }


def test_second_run_replaces_its_rows_and_keeps_those_of_others(
    measure: Measure, extractor: TwoFeatures, table: Path
) -> None:
    measure("--guidance", "1", "2")
    first = fidelity_table.read(table)
    assert len(first) == 2 * len(METRICS)
    count = len(METRICS)
    changed = [{**row, "value": "9", "accuracy": "0.5"} for row in first]
    fidelity_table.put(table, changed)
    measure("--guidance", "2")
    second = fidelity_table.read(table)
    # measured again; the accuracy, which another command adds, stays
    assert second == changed[:count] + [{**row, "accuracy": "0.5"} for row in first[count:]]
    measure("--guidance", "2", "--steps", "2", "--metrics", "FID")
    assert fidelity_table.read(table)[:-1] == second


def test_settings_without_a_column_are_part_of_the_models_name(
    measure: Measure, extractor: TwoFeatures, table: Path
) -> None:
    for more in ([], ["--seed", "1"], ["--sampler", "ddim", "--seed", "3"]):
        measure("--metrics", "FID", *more)
    models = [row["model"] for row in fidelity_table.read(table)]
    name = models[0]
    assert models == [name, f"{name} (seed 1)", f"{name} (ddim, seed 3)"]


def test_unknown_values_are_empty_cells_and_null(
    measure: Measure, extractor: TwoFeatures, table: Path
) -> None:
    # of so few images IS is of one part, and has no spread
    (result,) = measure("--count", "12", "--metrics", "IS")
    assert result["stderr"] is None and result["value"] >= 1
    (row,) = fidelity_table.read(table)
    assert row["stderr"] == "" and row["value"] != ""


def test_printed_values_name_their_feature_extractor(
    models: Path, extractor: TwoFeatures, table: Path, capsys: Capture
) -> None:
    flags = ["--model", str(models / "pixels"), "--output-dir", str(table.parent), "--quiet"]
    assert fidelity.main([*flags, "--count", "12", "--steps", "1", "--guidance", "1", "2"]) == 0
    printed = capsys.readouterr().out
    rows = fidelity_table.read(table)
    for guidance in ("1", "2"):
        head = f"pixels on digits (test), guidance {guidance}, 12 generated and 12 real images"
        assert head in printed.splitlines()
    for row in rows:
        assert f"  {row['metric']}[extractor-2] {float(row['value']):.4f}" in printed
    assert "nan" not in printed
    assert printed.endswith(f"complete: {table}\n")


@pytest.mark.parametrize(("count", "warned"), [(10 * WIDTH - 1, True), (10 * WIDTH, False)])
def test_warning_of_fewer_than_ten_images_per_feature_for_fid(
    models: Path, extractor: TwoFeatures, table: Path, capsys: Capture, count: int, warned: bool
) -> None:
    flags = ["--model", str(models / "pixels"), "--output-dir", str(table.parent), "--quiet"]
    flags += ["--count", str(count), "--steps", "1", "--metrics"]
    assert fidelity.main([*flags, "FID", "KID"]) == 0
    line = "diffcls: FID of 19 images on 2 features: its bias is considerable below 20"
    err = capsys.readouterr().err
    assert err.startswith(line) and err.count("\n") == 1 if warned else err == ""
    assert fidelity.main([*flags, "KID"]) == 0  # whose estimate has no bias
    assert capsys.readouterr().err == ""


def test_unconditional_model_is_measured_once_without_guidance(
    measure: Measure, extractor: TwoFeatures, table: Path
) -> None:
    (result,) = measure("--guidance", "2", "4", "--metrics", "FID", model="free")
    assert result["guidance"] == 1.0 and result["training_images"] is None
    (row,) = fidelity_table.read(table)
    assert row["guidance"] == "1" and row["training_images"] == ""


def test_interrupted_command_keeps_finished_rows(
    models: Path,
    extractor: TwoFeatures,
    table: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, calls = sampling.sample, 0

    def sample(*args: Any, **options: Any) -> Iterator[Batch]:
        nonlocal calls
        calls += 1
        drawn = whole(*args, **options)
        yield next(drawn)
        if calls == 2:
            raise KeyboardInterrupt
        yield from drawn

    monkeypatch.setattr(sampling, "sample", sample)
    flags = ["--model", str(models / "pixels"), "--output-dir", str(table.parent), "--quiet"]
    flags += ["--count", "20", "--batch-size", "10", "--steps", "1", "--metrics", "FID"]
    assert fidelity.main([*flags, "--guidance", "1", "2", "3"]) == 130
    printed, err = capsys.readouterr()
    assert "Traceback" not in err and "interrupted at 10 of 20 images; these are not written" in err
    assert "guidance 1, 20 generated" in printed and "guidance 2, 10 generated" in printed
    assert "guidance 3" not in printed and "complete" not in printed
    assert [row["guidance"] for row in fidelity_table.read(table)] == ["1"]

    # fewer than say anything: nothing was found, and the same command does not resume from there
    calls = 1
    flags[flags.index("--batch-size") + 1] = "5"
    assert fidelity.main([*flags, "--guidance", "2"]) == 130
    printed, err = capsys.readouterr()
    assert printed == "" and err.endswith("\ndiffcls: interrupted\n")
    assert [row["guidance"] for row in fidelity_table.read(table)] == ["1"]


# ---- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def refused(
    table: Path, models: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run the command with bad flags; returns its one line on stderr."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("drawn all the same")

    monkeypatch.setattr(sampling, "_batches", never)

    def run(flags: str, model: str = "pixels", status: int = 2) -> str:
        fixed = ["--model", str(models / model), "--output-dir", str(table.parent), "--quiet"]
        return refusal(fidelity.main, [*fixed, *flags.split()], None, capsys, status)

    return run


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--metrics FID fit", "unknown metric: 'fit'; allowed: FID, IS, KID, precision, recall"),
        (
            "--sampler ddmi",
            "unknown sampler: 'ddmi'; allowed: dpm++, ddim, euler, heun, langevin, flow-euler",
        ),
        ("--extractor clip-digit", "unknown CLIP model: 'clip-digit'; allowed: |'clip-digits'?"),
        ("--count 9", "--count out of range: 9; allowed: 10 to"),
        ("--steps 0", "--steps out of range: 0; allowed: 1 to"),
        ("--batch-size 0", "--batch-size out of range: 0; allowed: 1 to"),
        ("--threads 0", "threads out of range: 0; allowed: 1 to"),
        ("--guidance 2 -1", "--guidance out of range: -1.0; allowed: 0 to 10000"),
        ("--guidance nan", "--guidance: not a finite number: 'nan'"),
        ("--guidance inf", "--guidance: not a finite number: 'inf'"),
        ("--count few", "--count: not a whole number: 'few'; see diffcls fidelity --help"),
        ("--model no-such", "unknown model: 'no-such'; allowed: |digits|PATH"),
        ("--dataset digit", "unknown dataset: 'digit'; allowed: digits"),
        ("--dataset folder:none", "image folder not found: 'none'"),
        ("--dataset scenes/counting", "none of the model's classes|allowed: 0, 1, 2"),
        ("--split tets", "unknown split of digits: 'tets'; allowed: test, validation, train"),
        ("--device gpu", "unknown device: 'gpu'; allowed: auto, cpu"),
        ("--metric FID", "--metric"),
    ],
)
def test_bad_usage_is_named_and_nothing_is_written(
    refused: Callable[..., str], table: Path, flags: str, message: str
) -> None:
    error = refused(flags)
    for part in message.split("|"):
        assert part in error
    assert not table.parent.exists()


def test_inception_without_its_weights_is_refused(
    refused: Callable[..., str], tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    message = refused("--extractor inception")
    assert "weights of --extractor inception not found: " in message
    assert str(tmp_path / "hub" / "checkpoints") in message and "--extractor clip-" in message
    assert not table.parent.exists()


def test_model_whose_card_names_no_data_set_is_refused(
    refused: Callable[..., str], table: Path
) -> None:
    message = refused("", "stranger")
    assert "names no training data set: 'stranger'; add --dataset NAME" in message
    assert not table.parent.exists()


@pytest.mark.parametrize("flags", ["--sampler flow-euler", "--steps 2000"])
def test_sampler_that_does_not_fit_is_refused_before_any_image_is_read(
    refused: Callable[..., str], extractor: TwoFeatures, table: Path, flags: str
) -> None:
    message = refused(flags)
    assert extractor.seen == 0
    assert "does not fit" in message or "steps out of range: 2000; allowed: 1 to 1000" in message
    assert not table.parent.exists()


def test_foreign_table_is_an_error_before_sampling(
    refused: Callable[..., str], extractor: TwoFeatures, table: Path
) -> None:
    table.parent.mkdir()
    table.write_text("mine,all mine\n")
    message = refused("--count 10", status=1)
    assert "not a fidelity table" in message and str(table) in message
    assert table.read_text() == "mine,all mine\n" and extractor.seen == 0


def test_unwritable_folder_is_an_error_before_sampling(
    refused: Callable[..., str], extractor: TwoFeatures, table: Path
) -> None:
    table.parent.write_text("a file")
    assert "cannot be written" in refused("--count 10")
    assert table.parent.read_text() == "a file" and extractor.seen == 0
