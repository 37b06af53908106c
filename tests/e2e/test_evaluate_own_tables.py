"""Tables that people bring to the command: prompts, class names and labels are never misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.log_messages import own_messages
from helpers.parquet_files import table, write
from helpers.refusals import refusal

import diffcls
from diffcls import evaluate

Pipelines = Callable[[str], Path]
WORDS = "zero one two three four five six seven eight nine".split()


@pytest.fixture
def refused(
    tmp_path: Path, tiny_pipeline: Pipelines, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """A function that runs the command with refused flags; returns its line on stderr."""

    def run(*flags: object) -> str:
        out = tmp_path / "out"
        fixed = ["--limit", "2", "--quiet", "--output-dir", out]
        if "--model" not in flags:
            fixed += ["--draws", "2", "--model", tiny_pipeline("v_prediction")]
        return refusal(evaluate.main, [*fixed, *flags], out, capsys)

    return run


@pytest.fixture
def dry_run(tmp_path: Path, tiny_pipeline: Pipelines) -> Callable[..., dict[str, Any]]:
    def run(**options: Any) -> dict[str, Any]:
        model = str(tiny_pipeline("v_prediction"))
        fixed = {"model": model, "limit": 2, "draws": 2, "dry_run": True, "quiet": True}
        (row,) = diffcls.run_evaluation(**fixed, output_dir=str(tmp_path / "out"), **options)
        return row

    return run


def written(folder: Path, prompts: list[str], header: str = "prompt,classidx") -> Path:
    path = folder / "prompts.csv"
    lines = [f"{text},{k}" for k, text in enumerate(prompts)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def numbered(folder: Path) -> str:
    """A table whose labels are the texts 0 to 10; "10" comes before "2" as a text."""
    rows = table(range(11), labels=[str(k) for k in range(11)], names=None)
    return f"parquet:{write(folder / 'numbers.parquet', rows)}"


# ---- prompts -------------------------------------------------------------------------------------


def test_prompts_that_lose_their_end_at_a_comma_are_refused(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "prompts.csv"
    rows = [f"{k},{k},a photo of a digit, {word}" for k, word in enumerate(WORDS)]
    path.write_text("\n".join(["classidx,classname,prompt", *rows]))
    assert "--prompts: line 2 has 4 fields, the header has 3" in refused("--prompts", path)


def test_two_classes_with_one_prompt_are_refused(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    prompts = [f"a photo of {word}" for word in WORDS]
    prompts[7] = prompts[3]
    message = refused("--prompts", written(tmp_path, prompts))
    assert "2 classes share a prompt" in message
    assert "3 (class 3) and 7 (class 7): a photo of three" in message


@pytest.mark.parametrize(
    "flags", [(), ("--method", "clip", "--model", "clip-digits")], ids=["diffusion", "clip"]
)
def test_two_classes_with_one_prompt_after_tokenization_are_refused(
    refused: Callable[..., str], tmp_path: Path, flags: tuple[str, ...]
) -> None:
    prompts = [f"a photo of {word}" for word in WORDS]
    prompts[7] = "A  photo of THREE"
    message = refused("--prompts", written(tmp_path, prompts), *flags)
    assert "3 (class 3) and 7 (class 7): a photo of three and A photo of THREE" in message


def test_order_of_own_classes_is_shown_for_prompts_without_class_names(
    dry_run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = [f"a photo of number {k}" for k in range(11)]
    row = dry_run(dataset=numbered(tmp_path), prompts=str(written(tmp_path, prompts)))
    assert row["spec"]["class_names"] == [str(k) for k in range(11)]
    (message,) = [text for text in own_messages(caplog) if "--prompts" in text]
    assert "no column classname; its classidx is read as 0 = '0', 1 = '1', 2 = '2'" in message
    assert "9 = '9', … (11 in all)" in message


# ---- labels and names of classes -----------------------------------------------------------------


def test_duplicate_labels_of_a_table_are_refused(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    rows = table(range(6), labels=["cat", "cat ", "Cat"] * 2, names=None)
    path = write(tmp_path / "pets.parquet", rows)
    assert "duplicate labels in column 'label'" in refused("--dataset", f"parquet:{path}")


def test_column_of_paths_is_refused_once_before_the_run(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    rows = pa.table({"image": ["/data/a.png", "/data/b.png"], "label": ["cat", "dog"]})
    path = write(tmp_path / "paths.parquet", rows)
    message = refused("--dataset", f"parquet:{path}")
    assert "the column holds paths, not images: \"'/data/a.png' in row 0" in message


def test_names_of_a_file_are_candidates_and_prompts(
    dry_run: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "names.csv"
    rows = [f"{k},number {k + 1}" for k in reversed(range(11))]
    path.write_text("\n".join(["folder,classname", *rows]))
    spec = dry_run(dataset=numbered(tmp_path), classnames=str(path))["spec"]
    assert spec["class_names"] == [f"number {k + 1}" for k in range(11)]
    assert spec["prompts"][:2] == ["a photo of a number 1.", "a photo of a number 2."]


def test_names_are_refused_for_a_built_in_data_set_and_for_a_wrong_number(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(WORDS))
    assert "--classnames: digits has class names of its own" in refused("--classnames", path)
    message = refused("--dataset", numbered(tmp_path), "--classnames", path)
    assert "--classnames: file has 10 names, the data set 11 classes" in message
    message = refused("--dataset", numbered(tmp_path), "--classnames", tmp_path / "none.txt")
    assert "--classnames: file not found" in message
