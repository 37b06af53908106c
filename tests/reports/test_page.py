"""The page: its numbers are the leaderboard's, it loads nothing, and it replaces only its own."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.page_reader import PageReader
from helpers.stored_runs import write_run

from diffcls.report import main
from diffcls.support.errors import UsageError

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

NAMES = ("<script>alert(1)</script>", 'dog & "cat"', "newt\x1b[2J")
ANSWERS: dict[str, tuple[int, int | None]] = {
    f"<b>{i}</b>.jpg": (i % 3, (i + (i % 4 == 0)) % 3) for i in range(24)
}


def write_runs(out: Path) -> Path:
    for seed in (0, 1):
        write_run(out, ANSWERS, seed=seed, class_names=NAMES)
    write_run(out, {**ANSWERS, "z": (1, None)}, seed=2, class_names=NAMES, evaluations=30)
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three runs, without a page."""
    return write_runs(tmp_path / "results")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs with their page and tables, to be read only."""
    out = write_runs(tmp_path_factory.mktemp("reported") / "results")
    page_of(out, "--csv")
    return out


@pytest.fixture(scope="module")
def html(reported: Path) -> str:
    return (reported / "report.html").read_text(encoding="utf-8")


def page_of(folder: Path, *flags: str) -> str:
    assert main([*flags, "--output-dir", str(folder)]) == 0
    return (folder / "report.html").read_text(encoding="utf-8")


def leaderboard(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_numbers_on_the_page_are_those_of_the_leaderboard(reported: Path, html: str) -> None:
    reader = PageReader(html)
    assert reader.open == []
    for row in leaderboard(reported):
        (shown,) = (cells for cells in reader.rows if cells[0].strip() == row["fingerprint"][:8]
                    and cells[1] == row["dataset"])  # fmt: skip
        assert shown[4] == f"{100 * float(row['accuracy']):.1f} %"
        low, high = (f"{100 * float(row[name]):.1f}" for name in ("ci_low", "ci_high"))
        assert shown[5] == f"{low}–{high}"
        assert shown[7] == f"{100 * float(row['ece']):.2f} %"
        assert shown[8] == f"{float(row['evaluations_per_image']):g}"


def test_the_page_loads_nothing(html: str) -> None:
    reader = PageReader(html)
    for tag, attributes in reader.elements:
        assert attributes.get("src", "data:").startswith("data:"), tag
        assert attributes.get("href", "#").startswith(("#", "data:,")), tag
    assert "@import" not in html and "url(http" not in html
    assert ("meta", "default-src 'none'") in [
        (tag, found.get("content", "")[:18]) for tag, found in reader.elements
    ]


def test_names_are_escaped_and_hold_no_control_character(html: str) -> None:
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "\x1b" not in html and "<b>0</b>" not in html
    assert [tag for tag, _ in PageReader(html).elements].count("script") == 1


def test_ids_are_unique_and_links_lead_to_them(html: str) -> None:
    reader = PageReader(html)
    ids = [found["id"] for _, found in reader.elements if "id" in found]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in reader.attributes("a", "href")} <= set(ids)


def test_each_selected_run_has_a_section(folder: Path, html: str) -> None:
    assert html.count('<details class="run"') == 3
    assert page_of(folder, "seed=1", "seed=2").count('<details class="run"') == 2


def test_equal_runs_give_equal_bytes(folder: Path) -> None:
    assert page_of(folder, "seed=1") == page_of(folder, "seed=1")


def test_what_is_missing_is_said_with_its_remedy(html: str) -> None:
    text = PageReader(html).text
    assert "No thumbnails" in text and "--data-root DIR" in text
    assert "No elimination order and no errors by timestep" in text and "--save-errors DIR" in text
    assert "No samples in the output folder" in text and "diffcls.generate" in text


def test_errors_csv_lists_each_wrong_image_with_its_runner_up(reported: Path) -> None:
    run = next(row["fingerprint"] for row in leaderboard(reported) if row["seed"] == "0")
    with (reported / "errors.csv").open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["run"] == run]
    wrong = {image: pair for image, pair in ANSWERS.items() if pair[0] != pair[1]}
    assert {line["image"] for line in lines} == set(wrong)
    for line in lines:
        label, answer = wrong[line["image"]]
        assert answer is not None
        # scores 0, -1, -2 at scale 2
        assert float(line["probability"]) == pytest.approx(0.866813, abs=1e-5)
        assert float(line["runner_up_probability"]) == pytest.approx(0.117310, abs=1e-5)
        others = [k for k in range(3) if k != answer]
        expected = [NAMES[k].replace("\x1b", "") for k in (label, answer, others[0])]
        found = [line[name].replace("\x1b", "") for name in ("label", "answer", "runner_up")]
        assert found == expected


def test_the_tables_agree_with_the_page(reported: Path) -> None:
    with (reported / "report-confusion.csv").open(encoding="utf-8", newline="") as file:
        confused = list(csv.DictReader(file))
    wrong = sum(label != answer for label, answer in ANSWERS.values())
    assert sum(int(line["images"]) for line in confused) == 3 * wrong


def test_a_file_of_somebody_else_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, flags in (("report.html", []), ("errors.csv", ["--csv"])):
        (folder / name).write_text("mine", encoding="utf-8")
        assert main(["--output-dir", str(folder), *flags]) == 2
        assert (folder / name).read_text(encoding="utf-8") == "mine"
        assert name in capsys.readouterr().err
        (folder / name).unlink()


@pytest.mark.parametrize("name", ["report.txt", "no/such/report.html", ".html/"])
def test_a_place_that_is_none_is_refused(folder: Path, name: str) -> None:
    assert main(["--output-dir", str(folder), "--output", str(folder / name)]) == 2


def test_a_kill_during_the_write_leaves_the_earlier_page(html: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(html, encoding="utf-8")
    killed = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "real = os.replace\n"
        "def die(source, target, *more, **options):\n"
        "    if str(target).endswith('report.html'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(source, target, *more, **options)\n"
        "os.replace = os.rename = die\n"
        "from diffcls.reports.page.files import write_page\n"
        f"write_page(Path({str(page)!r}), '<!doctype html>')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", killed], capture_output=True, env=dict(os.environ)
    )
    assert ended.returncode == -signal.SIGKILL
    assert page.read_text(encoding="utf-8") == html


def test_json_has_the_file_and_its_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seed=1", "--output-dir", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["bytes"] == (folder / "report.html").stat().st_size and shown["runs"] == 1


def test_a_missing_extra_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import diffcls.reports.page.svg as svg

    monkeypatch.setattr(svg, "find_spec", lambda name: None if name == "jinja2" else object())
    assert main(["--output-dir", str(folder)]) == 2
    error = capsys.readouterr().err
    assert 'pip install "diffcls[report]"' in error and error.count("\n") == 1


def test_more_than_thirty_classes_list_pairs_instead_of_a_matrix(tmp_path: Path) -> None:
    names = tuple(f"class {k}" for k in range(31))
    answers: dict[str, tuple[int, int | None]] = {
        f"{k}": (k, (k + (k > 28)) % 31) for k in range(31)
    }
    prompts: dict[str, Any] = {"prompts": names, "class_of": tuple(range(31))}
    write_run(tmp_path, answers, class_names=names, **prompts)
    reader = PageReader(page_of(tmp_path))
    assert "Images by label (rows)" not in reader.text
    assert ["class 29", "class 30", "1"] in reader.rows


def test_an_output_folder_without_records_is_refused(tmp_path: Path) -> None:
    from diffcls.reports.page.build import write_report
    from diffcls.reports.page.options import ReportOptions

    with pytest.raises(UsageError, match="holds no runs"):
        write_report(ReportOptions(output_dir=str(tmp_path)), lambda _: None)
