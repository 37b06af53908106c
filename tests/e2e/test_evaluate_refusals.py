"""What the command answers to bad input: one line, exit status 2, and nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.refusals import refusal
from PIL import Image
from safetensors.torch import load_file, save_file

from diffcls import evaluate

Pipelines = Callable[[str], Path]
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def refused(
    tmp_path: Path, tiny_pipeline: Pipelines, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """A function that runs the command with refused flags; returns its line on stderr."""

    def run(*flags: object, status: int = 2, model: Path | None = None) -> str:
        out = tmp_path / "out"
        fixed = ["--model", str(model or tiny_pipeline("v_prediction")), "--output-dir", str(out)]
        few = [] if {"--limit", "--indices", "--subset"} & set(flags) else ["--limit", "2"]
        return refusal(evaluate.main, [*fixed, "--quiet", *few, *flags], out, capsys, status)

    return run


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--dataset digit", "unknown dataset: 'digit'; allowed: digits|did you mean 'digits'?"),
        ("--method difusion", "unknown method: 'difusion'|did you mean 'diffusion'?"),
        ("--method diffusion clap", "unknown method: 'clap'"),
        ("--search rasing", "unknown search: 'rasing'; allowed: racing|did you mean 'racing'?"),
        ("--split tets", "unknown split of digits: 'tets'; allowed: test, validation, train"),
        ("--model no-such", "unknown model: 'no-such'|PATH"),
        ("--loss l3", "unknown loss: 'l3'; allowed: l2, l1, huber"),
        ("--weighting uniforn", "unknown weighting|did you mean 'uniform'?"),
        (
            "--allocation cifar",
            "unknown allocation: 'cifar'; allowed: even|did you mean 'cifar10'?",
        ),
        ("--device gpu", "unknown device: 'gpu'; allowed: auto, cpu"),
        ("--dtype fp16", "unknown dtype: 'fp16'|did you mean 'float16'?"),
        ("--no-such-flag", "--no-such-flag|see diffcls evaluate --help"),
        ("--lim 5", "--lim"),
    ],
)
def test_unknown_name_is_refused(refused: Callable[..., str], flags: str, parts: str) -> None:
    message = refused(*flags.split())
    for part in parts.split("|"):
        assert part in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--draws 0", "draws out of range: 0; allowed: 1 to 100000"),
        ("--draws ten", "--draws: not a whole number: 'ten'"),
        ("--limit 0", "--limit out of range: 0; allowed: 1 to 1000000000"),
        ("--limit -5", "limit out of range: -5"),
        ("--confidence 2", "--confidence out of range: 2.0; allowed: above 0, below 1"),
        ("--confidence nan", "--confidence: not a finite number: 'nan'"),
        ("--max-evaluations 0", "--max-evaluations out of range: 0"),
        ("--shard 3/2", "shard out of range: '3/2'; allowed: i/n with 0 <= i < n <= 1,000,000"),
        ("--shard 2", "--shard cannot be read: '2'; allowed: i/n"),
        ("--n_workers 2", "--n-workers and --worker-idx must be given together"),
        ("--n_workers 2 --worker_idx 2", "shard out of range: '2/2'"),
        ("--batch-size 0", "--batch-size out of range: 0; allowed: 1 to 65536, or auto"),
        ("--batch-size many", "not a whole number: 'many', nor auto"),
        ("--threads 0", "threads out of range: 0"),
        ("--img-size 30", "image size does not fit the model: 30; allowed: a multiple of 4"),
        ("--stages 5", "cannot parse --stages: '5'; allowed: SAMPLES:KEEP"),
        ("--stages 5:2", "stages do not match"),
        ("--stages 5:2 3:1", "samples per stage out of range: [5, 3]"),
        ("--stages 2000:1", "samples per stage out of range: [2000]"),
        ("--n-samples 5 9", "--n-samples and --to-keep go together"),
        ("--n-samples 5 9 --to-keep 1", "stages do not match"),
        ("--search racing --n-samples 5 --to-keep 1", "belong to --search paper: 'racing'"),
        ("--search exhaustive --confidence 0.9", "'exhaustive' has no such option: 'confidence'"),
        (
            "--search halving --max-evaluations 9",
            "'halving' has no such option: 'max_evaluations'; allowed: draws",
        ),
        (
            "--search paper --draws 9",
            "'paper' has no such option: 'draws'; allowed: stages, n_trials",
        ),
        ("--stages 5:1 --allocation cifar10", "own timesteps: '--allocation learned@cifar10/"),
        ("--device meta", "unknown device: 'meta'"),
        ("--device cuda:99", "--device is not available: 'cuda:99'; use --device cpu"),
        ("--template nothing", "exactly one {} for the class name: 'nothing'"),
        ("--prompts no.csv", "--prompts: file not found: 'no.csv'"),
        (
            "--prompts a.csv --template {}",
            "--prompts, --template and --ensemble exclude one another",
        ),
        ("--noise-path no.pt", "--noise-path not found: 'no.pt'"),
        ("--indices no.txt", "--indices: cannot read file"),
        ("--limit 5 --subset 1-per-class", "more than one subset"),
        ("--subset few", "--subset: invalid value: 'few'; allowed: N-per-class"),
    ],
)
def test_value_that_is_not_allowed_is_refused(
    refused: Callable[..., str], flags: str, message: str
) -> None:
    assert message in refused(*flags.split())


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def test_image_folder_without_two_classes_is_refused(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    data = tmp_path / "set"
    assert "image folder not found" in refused("--dataset", f"folder:{data}")
    data.mkdir()
    assert "image folder contains no image" in refused("--dataset", f"folder:{data}")
    write_image(data / "cat" / "1.png")
    assert "['cat']; allowed: two classes or more" in refused("--dataset", f"folder:{data}")
    assert "unknown dataset: 'folder:'" in refused("--dataset", "folder:")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("prompt,classidx\na 0,0\n", "does not cover the data set's classes"),
        ("text,classidx\na,0\n", "--prompts: header lacks the column prompt: ['text', 'classidx']"),
        ("prompt,classidx\na,zero\n", "classidx is not a whole number"),
        (
            "prompt,classname,classidx\n" + "".join(f"a {k},{9 - k},{k}\n" for k in range(10)),
            "classname of classidx 0 differs from the data set's: ",
        ),
    ],
)
def test_prompts_of_other_classes_are_refused(
    refused: Callable[..., str], tmp_path: Path, rows: str, message: str
) -> None:
    (tmp_path / "prompts.csv").write_text(rows)
    assert message in refused("--prompts", tmp_path / "prompts.csv")


def test_broken_model_is_refused(
    refused: Callable[..., str], tmp_path: Path, tiny_pipeline: Pipelines
) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny_pipeline("v_prediction"), tmp_path / name))

    lacking = copy("lacking")
    (lacking / UNET).unlink()
    assert f"has no weights: '{lacking}/unet'" in refused(model=lacking)

    for name, error in (("nan", "part 'unet' are not finite: "), ("less", "1 tensors are missing")):
        broken = copy(name)
        tensors = load_file(broken / UNET)
        if name == "nan":
            tensors["conv_out.bias"][0] = torch.nan
        else:
            del tensors["conv_out.bias"]
        save_file(tensors, broken / UNET, metadata={"format": "pt"})
        message = refused(model=broken)
        assert error in message and "conv_out.bias" in message

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "not a diffusers pipeline folder" in refused(model=empty)


@pytest.mark.parametrize("flag", ["--output-dir", "--save-errors"])
def test_folder_that_cannot_be_written_is_refused(
    flag: str, tmp_path: Path, tiny_pipeline: Pipelines, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("a file")
    folders = {"--output-dir": tmp_path / "out", "--save-errors": tmp_path / "errors"}
    folders[flag] = mine / "below"
    flags = [str(x) for pair in folders.items() for x in pair]
    model = str(tiny_pipeline("v_prediction"))
    assert evaluate.main(["--model", model, "--limit", "2", "--draws", "2", "--quiet", *flags]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and str(mine) in err
    assert mine.read_text() == "a file"


def test_unsuitable_noise_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "noise.pt"
    torch.save(torch.zeros(2, 4, 9, 9), path)
    assert "noise does not fit the model: (2, 4, 9, 9)" in refused("--noise-path", path)
    torch.save(torch.full((2, 4, 8, 8), torch.inf), path)
    assert "noise is not finite" in refused("--noise-path", path)
    path.write_bytes(b"no tensor")
    assert "cannot read noise file" in refused("--noise-path", path)


def test_damaged_records_end_a_run_with_status_1(
    tmp_path: Path, tiny_pipeline: Pipelines, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", str(tiny_pipeline("v_prediction")), "--output-dir", str(tmp_path)]
    flags += ["--limit", "2", "--draws", "2", "--quiet"]
    assert evaluate.main(flags) == 0
    (path,) = tmp_path.glob("runs/*/records-0-of-1.jsonl")
    damaged = path.read_bytes().replace(b'"label":', b'"label":1', 1)
    path.write_bytes(damaged)
    capsys.readouterr()
    assert evaluate.main(flags) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"line 1 of {path} is damaged" in err
    assert path.read_bytes() == damaged
