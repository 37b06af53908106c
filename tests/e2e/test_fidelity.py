"""The command ``python -m diffcls.fidelity``: figures whose truth is known, and their table."""

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
    """A model of pixels with random weights, and a card that names its classes."""
    tiny_families.save(build, folder)
    told = {"name": folder.name, "labels": list(map(str, range(classes))), **card}
    (folder / "diffcls.json").write_text(json.dumps(told))
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


class Eye:
    """Sees two numbers of an image; counts the images it was shown."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images)
        flat = images.flatten(1)
        features = torch.stack([flat.mean(dim=1), flat.std(dim=1)], dim=1)
        return features, features @ torch.eye(2, 10)


@pytest.fixture
def eye(monkeypatch: pytest.MonkeyPatch) -> Eye:
    """A quick extractor takes the place of CLIP."""
    eye = Eye()
    monkeypatch.setattr(feature_extractors, "load", lambda *_: Extractor("eye-2", "1", WIDTH, eye))
    return eye


Measure = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def measure(table: Path, models: Path, capsys: Capture) -> Measure:
    """Run the command, by default with a small model of pixels; what it says as JSON."""

    def run(*flags: object, model: str = "pixels") -> Any:
        fixed = ["--model", str(models / model), "--output-dir", str(table.parent), "--json"]
        few = [] if "--count" in flags else ["--count", "40"]
        quick = ["--steps", "1", "--quiet"]
        assert fidelity.main([*fixed, *few, *quick, *map(str, flags)]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # NaN is no JSON

    return run


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real digits as images of one's own, 8 of each class."""
    root, held = tmp_path_factory.mktemp("even"), Counter[int]()
    for item in load_dataset("digits").items:
        if held[item.label] < 8:
            (root / str(item.label)).mkdir(exist_ok=True)
            item.open().save(root / str(item.label) / f"{held[item.label]}.png")
            held[item.label] += 1
    return root


def draws_the_real_ones(root: Path) -> Callable[..., Iterator[Batch]]:
    """A perfect generator: of each class that it is asked for, the images that there are."""

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


# ---- the figures -------------------------------------------------------------------------------


def test_real_images_are_at_no_distance_from_themselves(
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
    # CLIP tells the ten classes of real images apart
    assert 3 * random["IS"]["value"] < found["IS"]["value"] <= 10
    # what an untrained network draws is far from all that
    assert random["FID"]["value"] > 10 and random["precision"]["value"] < 0.1
    assert random["KID"]["value"] > 10 * abs(found["KID"]["value"])
    assert all(row["extractor"] == "clip-digits-128" for row in found.values())
    assert all(row["n"] == 80 and row["dataset"].startswith("folder:") for row in found.values())


def test_metrics_are_those_asked_for_in_their_own_order(measure: Measure, eye: Eye) -> None:
    assert [row["metric"] for row in measure()] == list(METRICS)
    assert [row["metric"] for row in measure("--metrics", "recall", "FID")] == ["FID", "recall"]
    whole = {row["metric"]: row["value"] for row in measure()}
    for name in METRICS:  # alone or in company
        (row,) = measure("--metrics", name)
        assert row["value"] == whole[name]


def test_as_many_images_of_each_class_are_drawn(
    measure: Measure, eye: Eye, monkeypatch: pytest.MonkeyPatch
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
    assert eye.seen == 23 + 2 * 23  # the real ones once


def test_split_with_fewer_images_is_taken_whole(measure: Measure, eye: Eye, even: Path) -> None:
    (row,) = measure("--dataset", f"folder:{even}", "--count", "500", "--metrics", "FID")
    assert row["n"] == 80 and eye.seen == 2 * 80


def test_figures_do_not_depend_on_batches_but_on_the_seed(measure: Measure, eye: Eye) -> None:
    flags = ("--metrics", "FID")
    (one,), (other,) = measure(*flags), measure(*flags, "--batch-size", "7")
    assert one["value"] == pytest.approx(other["value"], rel=1e-4)
    (another,) = measure(*flags, "--seed", "1")
    assert another["value"] != pytest.approx(one["value"], rel=1e-4)


def test_real_images_are_looked_at_once(measure: Measure, eye: Eye, table: Path) -> None:
    first = measure("--metrics", "FID")
    assert eye.seen == 80
    assert measure("--metrics", "FID") == first
    assert eye.seen == 80 + 40
    (kept,) = (table.parent / "fits").glob("real-*.npz")
    with np.load(kept) as stored:
        data, _ = choose(load_dataset("digits"), 40)
        assert stored["labels"].tolist() == [item.label for item in data.items]
        assert stored["features"].shape == (40, WIDTH)


def test_class_of_an_image_with_candidates_of_its_own_is_one_of_all(table: Path, eye: Eye) -> None:
    flags = ["--model", "scenes", "--dataset", "scenes/pairs", "--output-dir", str(table.parent)]
    flags += ["--count", "10", "--steps", "1", "--quiet", "--metrics", "FID"]
    assert fidelity.main(flags) == 0
    (kept,) = (table.parent / "fits").glob("real-*.npz")
    with np.load(kept) as stored:
        data, _ = choose(load_dataset("scenes/pairs"), 10)
        assert stored["labels"].tolist() == [item.class_index for item in data.items]


# ---- what is said and written ------------------------------------------------------------------


def test_table_has_the_columns_of_the_contract(measure: Measure, eye: Eye, table: Path) -> None:
    said = measure("--guidance", "1.5")
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[0] == (
        "model,dataset,split,metric,extractor,n,value,stderr,guidance,steps,training_images,"
        "accuracy"
    )
    for row, told in zip(fidelity_table.read(table), said, strict=True):
        assert row == {
            "model": "pixels",
            "dataset": "digits",
            "split": "test",
            "metric": told["metric"],
            "extractor": "eye-2",
            "n": "40",
            "value": f"{told['value']:.6g}",
            "stderr": f"{told['stderr']:.6g}" if told["stderr"] is not None else "",
            "guidance": "1.5",
            "steps": "1",
            "training_images": "1200",
            "accuracy": "",
        }


def test_second_run_replaces_its_rows_and_keeps_those_of_others(
    measure: Measure, eye: Eye, table: Path
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


def test_what_the_table_has_no_column_for_is_told_beside_the_model(
    measure: Measure, eye: Eye, table: Path
) -> None:
    for more in ([], ["--seed", "1"], ["--sampler", "ddim", "--seed", "3"]):
        measure("--metrics", "FID", *more)
    models = [row["model"] for row in fidelity_table.read(table)]
    name = models[0]
    assert models == [name, f"{name} (seed 1)", f"{name} (ddim, seed 3)"]


def test_what_is_not_known_is_an_empty_cell_and_null(
    measure: Measure, eye: Eye, table: Path
) -> None:
    # of so few images IS is of one part, and has no spread
    (said,) = measure("--count", "12", "--metrics", "IS")
    assert said["stderr"] is None and said["value"] >= 1
    (row,) = fidelity_table.read(table)
    assert row["stderr"] == "" and row["value"] != ""


def test_printed_figures_name_what_saw_the_images(
    models: Path, eye: Eye, table: Path, capsys: Capture
) -> None:
    flags = ["--model", str(models / "pixels"), "--output-dir", str(table.parent), "--quiet"]
    assert fidelity.main([*flags, "--count", "12", "--steps", "1", "--guidance", "1", "2"]) == 0
    printed = capsys.readouterr().out
    rows = fidelity_table.read(table)
    for guidance in ("1", "2"):
        head = f"pixels on digits (test), guidance {guidance}, 12 generated and 12 real images"
        assert head in printed.splitlines()
    for row in rows:
        assert f"  {row['metric']}[eye-2] {float(row['value']):.4f}" in printed
    assert "nan" not in printed
    assert printed.endswith(f"complete: {table}\n")


@pytest.mark.parametrize(("count", "warned"), [(10 * WIDTH - 1, True), (10 * WIDTH, False)])
def test_fid_of_fewer_images_than_ten_a_feature_is_warned_of(
    models: Path, eye: Eye, table: Path, capsys: Capture, count: int, warned: bool
) -> None:
    flags = ["--model", str(models / "pixels"), "--output-dir", str(table.parent), "--quiet"]
    flags += ["--count", str(count), "--steps", "1", "--metrics"]
    assert fidelity.main([*flags, "FID", "KID"]) == 0
    line = "diffcls: FID of 19 images on 2 features: its bias is considerable below 20"
    err = capsys.readouterr().err
    assert err.startswith(line) and err.count("\n") == 1 if warned else err == ""
    assert fidelity.main([*flags, "KID"]) == 0  # whose estimate has no bias
    assert capsys.readouterr().err == ""


def test_model_without_a_condition_is_measured_once_and_without_guidance(
    measure: Measure, eye: Eye, table: Path
) -> None:
    (said,) = measure("--guidance", "2", "4", "--metrics", "FID", model="free")
    assert said["guidance"] == 1.0 and said["training_images"] is None
    (row,) = fidelity_table.read(table)
    assert row["guidance"] == "1" and row["training_images"] == ""


def test_stopped_command_keeps_the_rows_that_were_finished(
    models: Path, eye: Eye, table: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
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


# ---- what is refused ---------------------------------------------------------------------------


@pytest.fixture
def refused(
    table: Path, models: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run the command with flags it must refuse before it draws; its one line on stderr."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("drawn all the same")

    monkeypatch.setattr(sampling, "_batches", never)

    def run(flags: str, model: str = "pixels", status: int = 2) -> str:
        fixed = ["--model", str(models / model), "--output-dir", str(table.parent), "--quiet"]
        assert fidelity.main([*fixed, *flags.split()]) == status
        printed, err = capsys.readouterr()
        assert printed == ""
        assert err.startswith("diffcls: ") and err.count("\n") == 1
        assert "Traceback" not in err
        return err

    return run


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--metrics FID fit", "unknown metric: 'fit'; allowed: FID, IS, KID, precision, recall"),
        (
            "--sampler ddmi",
            "unknown sampler: 'ddmi'; allowed: dpm++, ddim, euler, heun, langevin, flow-euler",
        ),
        ("--extractor clip-digit", "unknown CLIP model: 'clip-digit'; allowed: |'clip-digits'?"),
        ("--count 9", "--count out of range: 9; allowed: 10 or more"),
        ("--steps 0", "--steps out of range: 0; allowed: 1 or more"),
        ("--batch-size 0", "--batch-size out of range: 0; allowed: 1 or more"),
        ("--threads 0", "threads out of range: 0; allowed: 1 or more"),
        ("--guidance 2 -1", "--guidance out of range: -1.0; allowed: 0 or more, finite"),
        ("--guidance nan", "--guidance out of range: nan"),
        ("--guidance inf", "--guidance out of range: inf"),
        ("--count few", "--count: invalid int value: 'few'; see diffcls fidelity --help"),
        ("--model no-such", "unknown model: 'no-such'; allowed: |digits|PATH"),
        ("--dataset digit", "unknown dataset: 'digit'; allowed: digits"),
        ("--dataset folder:none", "image folder not found: 'none'"),
        ("--dataset scenes/counting", "none of the model's classes|allowed: 0, 1, 2"),
        ("--split tets", "unknown split of digits: 'tets'; allowed: test, validation, train"),
        ("--device gpu", "unknown device: 'gpu'; allowed: auto, cpu"),
        ("--metric FID", "--metric"),
    ],
)
def test_what_is_not_allowed_is_named_and_nothing_written(
    refused: Callable[..., str], table: Path, flags: str, said: str
) -> None:
    message = refused(flags)
    for part in said.split("|"):
        assert part in message
    assert not table.parent.exists()


def test_inception_without_its_weights_is_refused(
    refused: Callable[..., str], tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    message = refused("--extractor inception")
    assert "weights of --extractor inception not found: " in message
    assert str(tmp_path / "hub" / "checkpoints") in message and "--extractor clip-" in message
    assert not table.parent.exists()


def test_model_that_does_not_say_its_data_set_is_refused(
    refused: Callable[..., str], table: Path
) -> None:
    message = refused("", "stranger")
    assert "names no training data set: 'stranger'; add --dataset NAME" in message
    assert not table.parent.exists()


@pytest.mark.parametrize("flags", ["--sampler flow-euler", "--steps 2000"])
def test_way_that_the_model_cannot_go_is_refused_before_anything_is_seen(
    refused: Callable[..., str], eye: Eye, table: Path, flags: str
) -> None:
    message = refused(flags)
    assert eye.seen == 0
    assert "does not fit" in message or "steps out of range: 2000; allowed: 1 to 1000" in message
    assert not table.parent.exists()


def test_table_that_is_not_ours_stops_the_command_before_it_draws(
    refused: Callable[..., str], eye: Eye, table: Path
) -> None:
    table.parent.mkdir()
    table.write_text("mine,all mine\n")
    message = refused("--count 10", status=1)
    assert "not a fidelity table" in message and str(table) in message
    assert table.read_text() == "mine,all mine\n" and eye.seen == 0


def test_folder_that_cannot_be_written_stops_the_command_before_it_draws(
    refused: Callable[..., str], eye: Eye, table: Path
) -> None:
    table.parent.write_text("a file")
    assert "cannot be written" in refused("--count 10")
    assert table.parent.read_text() == "a file" and eye.seen == 0
