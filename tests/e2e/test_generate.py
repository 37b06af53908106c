"""The command ``python -m diffcls.generate``: what it draws, leaves, says and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_families
from helpers.refusals import refusal
from numpy.typing import NDArray
from PIL import Image

from diffcls import generate
from diffcls.data.load import load_dataset
from diffcls.data.transforms import to_pixels
from diffcls.generation import classes as generation
from diffcls.generation import sample as sampling
from diffcls.generation.image_grid import GAP, LINE, SIDE, enlarged, grid
from diffcls.generation.sample import Batch
from diffcls.generation.samplers import SAMPLERS
from diffcls.models import clip, loading, noisy_classifier
from diffcls.models.noisy_classifier import NoisyClassifier

Capture = pytest.CaptureFixture[str]
SEVEN = "a photo of a handwritten digit 7."


def make_pixel_model(folder: Path, build: Any, labels: Sequence[str], **card: Any) -> Path:
    """A model of pixels with random weights, and a card that names its classes."""
    tiny_families.save(build, folder)
    card_with_name = {"name": folder.name, "labels": list(labels), **card}
    (folder / "diffcls.json").write_text(json.dumps(card_with_name))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a class-conditional and an unconditional model, and a classifier of their noise."""
    folder = tmp_path_factory.mktemp("models")
    digits = list(map(str, range(10)))
    of_digits = {"trained_on": ["digits"]}
    make_pixel_model(folder / "pixels", tiny_families.class_unet, digits, **of_digits)
    make_pixel_model(folder / "free", tiny_families.unconditional, [], **of_digits)
    make_pixel_model(folder / "stranger", tiny_families.unconditional, [])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noisy_classifier.save(NoisyClassifier(10, 3, (8, 8)), folder / "noisy")
    card = {"name": "noisy", "labels": digits, "shape": [3, 16, 16], "trained_with": "pixels"}
    card["recipe"] = {"widths": [8, 8]}
    (folder / "noisy" / "diffcls.json").write_text(json.dumps(card))
    return folder


Draw = Callable[..., dict[str, Any]]


@pytest.fixture
def draw(tmp_path: Path, models: Path, capsys: Capture) -> Draw:
    """Run the command, by default with the small model of pixels; what it says as JSON."""

    def run(*flags: object, to: str = "out", model: str = "pixels", status: int = 0) -> Any:
        name = str(models / model) if (models / model).is_dir() else model
        fixed = ["--model", name, "--output-dir", str(tmp_path / to), "--json", "--quiet"]
        steps = [] if "--steps" in flags else ["--steps", "3"]
        assert generate.main([*fixed, *steps, *map(str, flags)]) == status
        printed, err = capsys.readouterr()
        assert err == ""
        return json.loads(printed)

    return run


def images_in(result: dict[str, Any]) -> NDArray[np.int64]:
    """(n, H, W, 3) images that the command generated, in order."""
    files = [Path(result["folder"]) / f"{number:04d}.png" for number in range(result["images"])]
    assert sorted(Path(result["folder"]).glob("[0-9]*.png")) == files
    return np.stack([np.asarray(Image.open(file), dtype=np.int64) for file in files])


def files_of(folder: str | Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def alike(one: Any, other: Any) -> bool:
    """The same images, but for a rounding of one in 255."""
    return one.shape == other.shape and bool(np.abs(one - other).max() <= 1)


# ---- an image ------------------------------------------------------------------------------------


def test_an_image_depends_on_its_seed_and_number_alone(draw: Draw) -> None:
    asked = ("--class", "3", "--count", "5")
    images = images_in(draw(*asked, to="all"))
    assert images.shape == (5, 16, 16, 3)
    for size in (1, 2, 5):
        assert alike(images_in(draw(*asked, "--batch-size", size, to=f"by {size}")), images)
    fewer = images_in(draw("--class", "3", "--count", "2", to="fewer"))
    assert alike(fewer, images[:2])
    differ = [np.abs(images - np.roll(images, i, axis=0)).max() for i in range(1, 5)]
    assert min(differ) > 50  # each number has noise of its own
    assert not alike(images_in(draw(*asked, "--seed", "1", to="another seed")), images)


def test_in_batches_of_one_size_more_images_begin_with_the_same_bytes(draw: Draw) -> None:
    few, many = (
        draw("--class", "3", "--count", n, "--batch-size", "2", "--sampler", "ddpm") for n in (3, 5)
    )
    images = [files_of(result["folder"]) for result in (few, many)]
    for name in ("0000.png", "0001.png", "0002.png"):
        assert images[0][name] == images[1][name]


def test_the_same_command_gives_the_same_files(draw: Draw) -> None:
    asked = ("--class", "1", "2", "--count", "2", "--trajectory")
    result = draw(*asked)
    before = files_of(result["folder"])
    assert set(before) == {
        *("0000.png", "0001.png", "0002.png", "0003.png"),
        *("grid.png", "samples.json", "trajectory.gif", "trajectory.png"),
    }
    assert draw(*asked) == result
    assert files_of(result["folder"]) == before


def test_each_setting_has_a_folder_of_its_own(draw: Draw, models: Path) -> None:
    asked = ("--class", "3", "--count", "2")
    first = draw(*asked)
    before = files_of(first["folder"])
    changes = [
        ("--seed", "1"),
        ("--steps", "4"),
        ("--sampler", "ddim"),
        ("--guidance", "3"),
        ("--dtype", "bfloat16"),
        ("--count", "3"),
        ("--guide", "classifier", "--guide-model", models / "noisy"),
        ("--guide", "classifier", "--guide-model", models / "noisy", "--guide-weight", "2"),
        ("--guide", "diffusion"),
    ]
    folders = {draw(*asked, *change)["folder"] for change in changes}
    folders.add(draw("--class", "4", "--count", "2")["folder"])
    assert len(folders | {first["folder"]}) == len(changes) + 2
    assert files_of(first["folder"]) == before


@pytest.mark.parametrize("guide", ["classifier", "clip"])
def test_target_class_of_a_guide_is_part_of_the_folders_name(
    draw: Draw, models: Path, guide: str
) -> None:
    # the prompt is empty whatever the class
    flags = ["--guide", guide, "--count", "1", "--steps", "2", "--guide-weight", "4"]
    flags += ["--guide-model", models / "noisy" if guide == "classifier" else "clip-digits"]
    one, other = (draw(*flags, "--class", k, model="free") for k in (3, 7))
    assert one["folder"] != other["folder"]
    assert not alike(images_in(one), images_in(other))


def test_trajectory_changes_no_image(draw: Draw) -> None:
    asked = ("--class", "5", "--count", "2")
    plain, shown = draw(*asked, to="plain"), draw(*asked, "--trajectory", to="shown")
    before, after = files_of(plain["folder"]), files_of(shown["folder"])
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"trajectory.gif", "trajectory.png"}


def test_a_class_is_a_prompt_of_the_data_set(draw: Draw) -> None:
    flags = ("--count", "2", "--guidance", "1")
    by_class = draw("--class", "7", *flags, model="digits")
    by_text = draw("--prompt", SEVEN, *flags, model="digits", to="text")
    assert by_class["prompts"] == by_text["prompts"] == [SEVEN] * 2
    assert np.array_equal(images_in(by_class), images_in(by_text))
    assert images_in(by_class).shape == (2, 32, 32, 3)


# ---- what it leaves ------------------------------------------------------------------------------


def test_samples_json_holds_all_settings(draw: Draw, models: Path) -> None:
    result = draw("--class", "4", "9", "--count", "2", "--guidance", "3", "--seed", "5")
    stored = json.loads((Path(result["folder"]) / "samples.json").read_text())
    expected = {
        "model": "pixels",
        "revision": loading.read_card(loading.ModelFiles(models / "pixels")).revision,
        "prompts": ["4", "4", "9", "9"],
        "labels": ["4", "4", "9", "9"],
        "guidance": 3.0,
        "sampler": "dpm++",
        "steps": 3,
        "seed": 5,
        "dtype": "float32",
        "guide": None,
        "generated": 4,
    }
    assert {name: stored[name] for name in expected} == expected
    assert (result["status"], result["asked"], result["images"]) == ("complete", 4, 4)


def test_grid_has_one_row_per_class_with_its_images(draw: Draw) -> None:
    result = draw("--class", "4", "9", "0", "--count", "2")
    images = images_in(result)
    rows = [(name, list(images[2 * i : 2 * i + 2])) for i, name in enumerate("490")]
    expected = grid([(name, [one.astype(np.uint8) for one in row]) for name, row in rows])
    with Image.open(Path(result["folder"]) / "grid.png") as found:
        assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_default_is_some_images_of_each_class(draw: Draw) -> None:
    result = draw("--count", "1", "--steps", "1")
    assert result["prompts"] == list(map(str, range(10)))


@pytest.mark.parametrize("sampler", ["dpm++", "ddpm"])
def test_animation_has_one_frame_per_step_and_ends_with_the_grid(draw: Draw, sampler: str) -> None:
    flags = ("--class", "2", "--count", "2", "--trajectory", "--steps", "5", "--sampler", sampler)
    folder = Path(draw(*flags)["folder"])
    last = np.asarray(Image.open(folder / "grid.png"), dtype=np.int64)
    with Image.open(folder / "trajectory.gif") as film:
        assert film.n_frames == 5
        film.seek(4)
        shown = np.asarray(film.convert("RGB"), dtype=np.int64)
    assert shown.shape == last.shape
    assert np.abs(shown - last).mean() < 8  # of 255: a film has 256 colours


def test_strip_begins_with_the_first_step_and_ends_with_the_image(draw: Draw) -> None:
    columns = {}
    for steps in (4, 25):
        result = draw("--class", "2", "--count", "1", "--trajectory", "--steps", steps)
        strip = np.asarray(Image.open(Path(result["folder"]) / "trajectory.png"))
        columns[steps] = (strip.shape[1] - GAP) // (SIDE + GAP)
        cells = strip[GAP + LINE : GAP + LINE + SIDE, GAP:]
        last = cells[:, (columns[steps] - 1) * (SIDE + GAP) :][:, :SIDE]
        image = enlarged(images_in(result)[0].astype(np.uint8))
        assert np.array_equal(last, np.asarray(image))
    assert columns == {4: 4, 25: 10}  # of a long way about ten


# ---- stopped -------------------------------------------------------------------------------------


def stopped_after(batches: int) -> Callable[..., Iterator[Batch]]:
    """A sampler during which somebody presses Ctrl-C."""
    whole = sampling.sample

    def sample(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        drawn = whole(*args, **kwargs)
        for _ in range(batches):
            yield next(drawn)
        raise KeyboardInterrupt

    return sample


def test_stopped_command_leaves_what_was_finished(
    draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--class", "1", "2", "--count", "3", "--batch-size", "4", "--trajectory")
    whole = draw(*asked, to="whole")
    with monkeypatch.context() as patched:
        patched.setattr(sampling, "sample", stopped_after(1))
        result = draw(*asked, status=130)
    assert (result["status"], result["images"], result["asked"]) == ("partial", 4, 6)
    files = files_of(result["folder"])
    assert set(files) == {
        *(f"{i:04d}.png" for i in range(4)),
        *("grid.png", "samples.json", "trajectory.gif", "trajectory.png"),
    }
    stored = json.loads(files["samples.json"])
    assert stored["generated"] == 4 and stored["labels"] == ["1", "1", "1", "2", "2", "2"]
    assert np.array_equal(images_in(result), images_in(whole)[:4])
    # and the same command draws all of them, into the same folder
    assert Path(draw(*asked)["folder"]) == Path(result["folder"])
    assert files_of(result["folder"]) == files_of(whole["folder"])


def test_stopped_command_says_how_far_it_came(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    flags = ["--model", str(models / "pixels"), "--output-dir", str(tmp_path / "out"), "--quiet"]
    flags += ["--class", "1", "--count", "3", "--steps", "2", "--batch-size", "2"]
    with monkeypatch.context() as patched:
        patched.setattr(sampling, "sample", stopped_after(1))
        assert generate.main(flags) == 130
    printed, err = capsys.readouterr()
    (folder,) = (tmp_path / "out").iterdir()
    assert printed == f"interrupted: 2 of 3 images in {folder}\n" and err == ""
    assert generate.main(flags) == 0
    assert capsys.readouterr().out == f"3 images in {folder}\n"


def test_stopped_before_the_first_image_leaves_nothing(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sampling, "sample", stopped_after(0))
    flags = ["--model", str(models / "pixels"), "--output-dir", str(tmp_path / "a" / "b")]
    assert generate.main([*flags, "--class", "1", "--quiet"]) == 130
    printed, err = capsys.readouterr()
    assert printed == "" and "interrupted" in err and "Traceback" not in err
    assert not (tmp_path / "a").exists()


# ---- guides --------------------------------------------------------------------------------------


def log_probability(logits: torch.Tensor, k: int) -> float:
    return float(torch.log_softmax(logits, dim=1)[:, k].mean())


def test_classifier_guides_to_the_requested_class(draw: Draw, models: Path) -> None:
    loaded = noisy_classifier.load(str(models / "noisy"))
    denoiser = loading.load(str(models / "free"))
    logits = loaded.logits_for(denoiser)

    def seen(result: dict[str, Any]) -> float:
        pixels = torch.from_numpy(images_in(result)).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            return log_probability(logits(pixels.float(), torch.zeros(len(pixels)).long()), 6)

    flags = ["--class", "6", "--count", "8", "--guide", "classifier", "--steps", "6"]
    flags += ["--guide-model", models / "noisy", "--guide-weight"]
    found = [seen(draw(*flags, weight, model="free")) for weight in (0, 5, 50)]
    assert found[0] < found[1] < found[2]


@pytest.mark.slow
@pytest.mark.parametrize("guide", ["clip", "diffusion"])
def test_guidance_raises_the_probability_of_the_class_under_clip(draw: Draw, guide: str) -> None:
    judge = clip.load("clip-digits")
    texts = judge.classifier([SEVEN.replace("7", str(k)) for k in range(10)], range(10))

    def seen(result: dict[str, Any]) -> float:
        pixels = torch.from_numpy(images_in(result)).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            return log_probability(judge.embed_generated(pixels.float()) @ texts.T * 10, 7)

    flags = ("--class", "7", "--count", "4", "--steps", "4")
    free = draw(*flags, "--guidance", "0", model="digits")  # the empty prompt alone
    guided = draw(*flags, "--guide", guide, "--guide-weight", "2", model="digits")
    assert guided["guidance"] == 0.0  # --guide alone, unless --guidance is given
    assert seen(guided) > seen(free) + 1.0


def test_guide_of_weight_zero_changes_no_image(draw: Draw) -> None:
    flags = ("--class", "7", "--count", "2")
    for guide in ("clip", "diffusion"):
        idle = draw(*flags, "--guide", guide, "--guide-weight", "0", "--guidance", "1")
        assert alike(images_in(idle), images_in(draw(*flags, "--guidance", "1")))


# ---- models of pixels ----------------------------------------------------------------------------


def test_unconditional_model_needs_neither_class_nor_data_set(draw: Draw) -> None:
    result = draw("--count", "3", model="stranger")
    assert result["prompts"] == [""] * 3 and result["guidance"] == 1.0
    stored = json.loads((Path(result["folder"]) / "samples.json").read_text())
    assert stored["labels"] == ["unconditional"] * 3
    assert images_in(result).shape == (3, 16, 16, 3)


# ---- data sets of one's own ----------------------------------------------------------------------


def test_classes_of_a_folder_are_its_folders(draw: Draw, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "pets" / name / "1.png")
    flags = ("--dataset", f"folder:{tmp_path / 'pets'}", "--count", "1", "--steps", "1")
    assert draw(*flags, model="digits")["prompts"] == ["a photo of a cat.", "a photo of a dog."]
    assert draw(*flags, "--class", "Dog", model="digits")["prompts"] == ["a photo of a dog."]


def test_sentences_of_a_folder_are_prompts_as_they_are(draw: Draw, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    table = "file_name,text\n1.png,a red square\n1.png,two blue circles\n"
    (tmp_path / "metadata.csv").write_text(table)
    flags = ("--dataset", f"folder:{tmp_path}", "--count", "1", "--steps", "1")
    assert draw(*flags, model="digits")["prompts"] == ["a red square", "two blue circles"]


def test_classes_are_in_the_order_of_the_given_split() -> None:
    denoiser = loading.load("digits")
    for split in ("test", "validation"):
        data = load_dataset("scenes/pairs", split)
        classes = generation.classes_of(denoiser, "scenes/pairs", data=data)
        assert classes.names == data.class_names
        assert classes.prompts[5] == f"a picture of {data.class_names[5]}."


# ---- from one image to another -------------------------------------------------------------------


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A zero and a one."""
    folder, items = tmp_path_factory.mktemp("ends"), load_dataset("digits").items
    paths = [folder / f"{k}.png" for k in (0, 1)]
    for k, path in enumerate(paths):
        next(item for item in items if item.label == k).open().convert("RGB").save(path)
    return paths


def test_interpolation_begins_and_ends_with_the_two_images(draw: Draw, ends: list[Path]) -> None:
    result = draw("--interpolate", *ends, "--count", "5", "--steps", "40", model="digits")
    images = images_in(result) / 127.5 - 1
    given = [to_pixels(Image.open(path), 32).transpose(1, 2, 0) for path in ends]

    def gap(one: Any, other: Any) -> float:
        return float(((one - other) ** 2).mean() ** 0.5)

    distance = gap(*given)
    assert gap(images[0], given[0]) < 0.4 * distance and gap(images[4], given[1]) < 0.4 * distance
    # on the way it leaves the one and comes to the other
    to_last = [gap(image, images[4]) for image in images]
    assert to_last == sorted(to_last, reverse=True)
    assert gap(images[2], images[0]) > 0.2 * distance


def test_interpolation_of_other_images_has_a_folder_of_its_own(
    draw: Draw, ends: list[Path]
) -> None:
    one, other = (draw("--interpolate", *pair, "--count", "2") for pair in (ends, ends[::-1]))
    assert one["folder"] != other["folder"]
    assert alike(images_in(one)[::-1], images_in(other))


# ---- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path, models: Path, capsys: Capture) -> Callable[..., str]:
    """Run the command with bad flags; returns its one line on stderr."""

    def run(flags: str, model: str = "pixels") -> str:
        name = str(models / model) if (models / model).is_dir() else model
        out = tmp_path / "out"
        fixed = ["--model", name, "--output-dir", str(out), "--quiet", "--steps", "2"]
        words = flags.replace("FOLDER", str(tmp_path)).replace("MODELS", str(models)).split()
        return refusal(generate.main, [*fixed, *words], out, capsys)

    return run


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--sampler dpm",
            "unknown sampler: 'dpm'; allowed: dpm++, ddim, euler, heun, langevin, flow-euler",
        ),
        ("--guide klip", "unknown guide: 'klip'; allowed: classifier, clip, diffusion|'clip'?"),
        ("--class ten", "unknown class: 'ten'; allowed: 0, 1, 2"),
        ("--model no-such", "unknown model: 'no-such'; allowed: |digits|PATH"),
        ("--dataset digit", "unknown dataset: 'digit'; allowed: digits"),
        ("--device gpu", "unknown device: 'gpu'; allowed: auto, cpu"),
        ("--dtype fp16", "unknown dtype: 'fp16'; allowed: float32"),
        ("--count 0", "--count out of range: 0; allowed: 1 to"),
        ("--steps 0", "--steps out of range: 0; allowed: 1 to"),
        ("--steps 2000", "steps out of range: 2000; allowed: 1 to 1000"),
        ("--batch-size 0", "--batch-size out of range: 0; allowed: 1 to"),
        ("--threads 0", "threads out of range: 0; allowed: 1 to"),
        ("--count few", "--count: not a whole number: 'few'; see diffcls generate --help"),
        ("--guidance -1", "--guidance out of range: -1.0; allowed: 0 to 10000"),
        ("--guidance nan", "--guidance: not a finite number: 'nan'"),
        ("--guidance inf", "--guidance: not a finite number: 'inf'"),
        ("--guide clip --guide-weight -1", "--guide-weight out of range: -1.0; allowed: 0"),
        ("--guide clip --guide-weight inf", "--guide-weight: not a finite number: 'inf'"),
        ("--guide-model clip-digits", "--guide-model needs --guide; remove --guide-model"),
        ("--guide-weight 2", "--guide-weight needs --guide; remove --guide-weight"),
        (
            "--guide diffusion --guide-model digits",
            "--guide diffusion uses the sampled model: 'digits'",
        ),
        ("--guide clip --guide-model clap", "unknown CLIP model: 'clap'; allowed: |clip-digits"),
        ("--guide classifier --guide-model x", "unknown classifier of noisy images: 'x'; allowed"),
        ("--prompt seven", "--prompt needs a model that reads texts: 'pixels'; use --class NAME"),
        (
            "--prompt a --class 7",
            "options exclude each other: '--prompt --class'; allowed",
        ),
        ("--class 7 --interpolate a b", "options exclude each other: '--class --interpolate'"),
        (
            "--prompt a --guide classifier",
            "--guide classifier needs a class, not --prompt: ['a']",
        ),
        ("--interpolate FOLDER/a.png FOLDER/b.png", "image file not found: |a.png"),
        (
            "--interpolate MODELS/pixels/diffcls.json MODELS/pixels/diffcls.json",
            "cannot read image",
        ),
        ("--interpolate one.png", "--interpolate: expected 2 arguments"),
        (
            "--sampler flow-euler",
            "does not fit the model, whose schedule is variance-preserving|ddim",
        ),
        ("--no-such-flag", "--no-such-flag|see diffcls generate --help"),
    ],
)
def test_bad_usage_is_named_and_nothing_is_written(
    refused: Callable[..., str], flags: str, message: str
) -> None:
    error = refused(flags)
    for part in message.split("|"):
        assert part in error


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        (
            "free",
            "--class 7",
            "--class needs a class-conditional model, or a guide: 'free'",
        ),
        ("free", "--prompt seven", "--prompt needs a model that reads texts: 'free'"),
        (
            "free",
            "--class 7 --guide diffusion",
            "--guide diffusion needs a conditional model",
        ),
        ("stranger", "--guide clip", "names no training data set: 'stranger'; add --dataset"),
        ("digits", "--guide classifier --guide-model MODELS/noisy", "images of another shape|4, 8"),
        ("digits", "--dataset folder:FOLDER/none", "image folder not found"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(
    refused: Callable[..., str], model: str, flags: str, message: str
) -> None:
    error = refused(flags, model)
    for part in message.split("|"):
        assert part in error


def test_interpolation_of_unfit_images_is_refused(
    refused: Callable[..., str], ends: list[Path]
) -> None:
    way = f"--interpolate {ends[0]} {ends[1]}"
    assert "--steps out of range: 1; allowed: 2 or more" in refused(f"{way} --steps 1")
    assert "--count out of range: 1; allowed: 2 or more" in refused(f"{way} --count 1")
    assert "--guide cannot be combined with --interpolate: 'clip'" in refused(f"{way} --guide clip")
    for flag in ("--guidance 2", "--sampler ddim", "--seed 1", "--trajectory"):
        assert f"no effect with --interpolate; remove {flag.split()[0]}" in refused(f"{way} {flag}")


def test_unwritable_folder_is_refused(tmp_path: Path, models: Path, capsys: Capture) -> None:
    (tmp_path / "mine").write_text("a file")
    flags = ["--model", str(models / "pixels"), "--class", "1", "--steps", "1", "--quiet"]
    assert generate.main([*flags, "--output-dir", str(tmp_path / "mine" / "below")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("diffcls: --output-dir cannot be written") and err.count("\n") == 1
    assert (tmp_path / "mine").read_text() == "a file"


def test_samplers_are_listed_with_their_sources(capsys: Capture) -> None:
    assert generate.main(["--list-samplers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SAMPLERS)
    assert all(
        line.endswith(one.description) for line, one in zip(lines, SAMPLERS.values(), strict=True)
    )
