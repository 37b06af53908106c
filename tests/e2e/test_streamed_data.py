"""Evaluation of shards and of streamed data sets: the records are those of plain files."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.image_folders import encoded
from helpers.interrupted_runs import answers, cut_off, lines
from helpers.tar_shards import CLASSES, files_of, image, write_shards, write_tar

from diffcls import evaluate
from diffcls.runs.records import Record

GRAYS = [7, 30, 52, 90, 110, 84, 27, 43, 61, 200, 213, 5]


@pytest.fixture(scope="module")
def flags(tiny_pipeline: Callable[[str], Path]) -> list[str]:
    model = str(tiny_pipeline("v_prediction"))
    quick = ["--draws", "8", "--threads", "1", "--quiet", "--no-check-model"]
    return ["--model", model, *quick, "--template", "a photo of a {}."]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shards"
    return write_shards(folder, {"0.tar": GRAYS[:5], "1.tar": GRAYS[5:9], "2.tar": GRAYS[9:]})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shards: Path, flags: list[str]) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert run(shards, flags, out) == 0
    return out


def run(shards: Path | str, flags: list[str], out: Path, *more: str) -> int:
    name = [] if isinstance(shards, str) else ["--dataset", f"webdataset:{shards}"]
    return evaluate.main([*name, *flags, "--output-dir", str(out), *more])


def by_gray(out: Path) -> dict[str, Record]:
    """Number in the name of each image -> its record, without the names."""
    return {
        name.rpartition("s")[2].removesuffix(".png"): dataclasses.replace(
            record, image_id="", fingerprint=""
        )
        for name, record in answers(out).items()
    }


def test_records_are_those_of_the_same_images_in_folders(
    tmp_path: Path, whole: Path, flags: list[str]
) -> None:
    for gray in GRAYS:
        path = tmp_path / "photos" / CLASSES[gray % 3] / f"s{gray:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(gray))
    folder = ["--dataset", f"folder:{tmp_path / 'photos'}"]
    assert evaluate.main([*folder, *flags, "--output-dir", str(tmp_path / "out")]) == 0
    assert len(by_gray(whole)) == len(GRAYS)
    assert by_gray(tmp_path / "out") == by_gray(whole)


def test_shares_of_machines_add_up(
    tmp_path: Path, shards: Path, whole: Path, flags: list[str]
) -> None:
    for share in ("0/2", "1/2"):
        assert run(shards, flags, tmp_path, "--shard", share) in (0, 1)
    assert answers(tmp_path) == answers(whole)


@pytest.mark.slow
def test_killed_run_resumes_with_the_shards_in_any_order(
    tmp_path: Path, shards: Path, whole: Path, flags: list[str]
) -> None:
    data = ["--dataset", f"webdataset:{shards}/{{2,0,1}}.tar", *flags]
    cut_off(tmp_path, data, signal.SIGKILL)
    assert 3 <= len(lines(tmp_path)) < len(GRAYS)
    assert run(shards, flags, tmp_path) == 0
    assert answers(tmp_path) == answers(whole)


def test_limit_and_indices_choose_among_the_images_of_all_shards(
    tmp_path: Path, shards: Path, whole: Path, flags: list[str]
) -> None:
    assert run(shards, flags, tmp_path / "a", "--limit", "4") == 0
    (tmp_path / "chosen.txt").write_text("11 0 6\n")
    assert run(shards, flags, tmp_path / "b", "--indices", str(tmp_path / "chosen.txt")) == 0
    ids = ["0/s007", "1/s027", "2/s005"]
    assert sorted(answers(tmp_path / "b")) == ids
    limited = by_gray(tmp_path / "a")
    assert len(limited) == 4
    assert {record.label for record in limited.values()} == {0, 1, 2}
    for gray, record in limited.items():
        assert record == by_gray(whole)[gray]


def test_broken_image_is_recorded_and_the_others_are_scored(
    tmp_path: Path, whole: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_shards(tmp_path / "shards", {"0.tar": GRAYS[:5]})
    broken = [("x.png", b"no image"), ("x.cls", b"1"), ("y.cls", b"2")]
    write_tar(folder / "1.tar", [*broken, *files_of(GRAYS[5:9])])
    assert run(folder, flags, tmp_path / "out") == 0
    records = answers(tmp_path / "out")
    errors = {name: record.error for name, record in records.items() if record.error}
    assert errors.keys() == {"1/x", "1/y"}
    assert "cannot read image" in str(errors["1/x"]) and "no image" in str(errors["1/y"])
    assert "2 images could not be scored" in capsys.readouterr().err
    for name in records.keys() - errors.keys():
        same = dataclasses.replace(records[name], fingerprint="")
        assert same == dataclasses.replace(answers(whole)[name], fingerprint="")


def test_names_of_members_lead_to_no_file_outside_the_output(
    tmp_path: Path, flags: list[str]
) -> None:
    names = ["../../../a", "/b", "c/../../d"]
    files = [
        (f"{name}.{kind}", content)
        for i, name in enumerate(names)
        for kind, content in (("png", image(40 * i)), ("cls", b"%d" % (i % 2)))
    ]
    inside = tmp_path / "deep" / "inside"
    write_tar(inside / "s" / "0.tar", files)
    (inside / "s" / "classnames.txt").write_text("cat\ndog\n")
    out = inside / "out"
    assert run(inside / "s", flags, out, "--save-errors", str(out / "tables")) == 0
    assert set(answers(out)) == {f"0/{name}" for name in names}
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and out not in path.parents]
    assert sorted(path.name for path in outside) == ["0.tar", "classnames.txt"]
    assert len(list((out / "tables").rglob("*.npz"))) == 3


def test_template_beside_the_shards_is_the_default_and_a_given_one_replaces_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_shards(tmp_path / "digits", {"0.tar": GRAYS[:4]})
    path = folder / "zeroshot_classification_templates.txt"
    path.write_text("a photo of a handwritten digit {c}.\n")
    flags = ["--dataset", f"webdataset:{folder}", "--method", "clip", "--model", "clip-digits"]
    flags += ["--threads", "1", "--quiet", "--json", "--output-dir", str(tmp_path / "out")]
    settings, seen = [], []
    for given in ([], ["--template", "a {}."]):
        assert evaluate.main([*flags, *given]) == 0
        shown = capsys.readouterr()
        settings.append(json.loads(shown.out)[0]["setting"])
        seen.append(shown.err)
    assert settings == ["templates=a photo of a handwritten digit {}.", "templates=a {}."]
    assert "prompts: 'a photo of a handwritten digit cat.'" in seen[0]
    assert "prompts: 'a cat.'" in seen[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "webdataset:none/*.tar"], "--dataset webdataset:PATTERN: no shards"),
        (["--dataset", "folder:x", "--streaming"], "--streaming is not read by the data set fold"),
        (["--dataset", "webdataset:x", "--data-root", "y"], "--data-root is not read by the data"),
        (["--dataset", "pets", "--data-root", "y", "--streaming"], "--streaming reads the Hub's c"),
    ],
)
def test_wrong_use_is_an_error_of_one_line(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", "digits", "--quiet", "--output-dir", str(tmp_path)]
    assert evaluate.main([*arguments, *flags]) == 2
    err = capsys.readouterr().err.strip()
    assert message in err
    assert "\n" not in err


READER = """
import resource, sys
from diffcls.data.load import load_dataset
from diffcls.data.transforms import to_pixels
from diffcls.scoring.prefetch import Prefetcher

dataset = load_dataset(sys.argv[1])
reader = Prefetcher(iter(dataset.items), lambda item: to_pixels(item.open(), 4), 64)
count = 0
while batch := reader.take():
    count += len(batch.items)
reader.close()
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_peak_memory_of_20_000_images_does_not_grow_with_their_bytes(tmp_path: Path) -> None:
    peaks = []
    for padding in (0, 8_000):  # bytes after the end of a PNG file are ignored
        folder = tmp_path / f"{padding}"
        for shard in range(8):
            content = [("png", encoded() + bytes(padding)), ("cls", b"0")]
            names = (f"{i:04d}.{kind}" for i in range(2500) for kind in ("png", "cls"))
            files = ((name, dict(content)[name[-3:]]) for name in names)
            write_tar(folder / f"{shard}.tar", files)
        (folder / "classnames.txt").write_text("a\nb\n")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-P", "-c", READER, f"webdataset:{folder}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        count, kilobytes = map(int, done.stdout.split())
        assert count == 20_000
        peaks.append(kilobytes / 1024)
    assert sum(path.stat().st_size for path in folder.glob("*.tar")) > 160e6
    assert peaks[1] - peaks[0] < 10, peaks
