"""Error tables of a report: saved ones, and images scored once more as the run scored them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.page_reader import PageReader
from helpers.stored_runs import write_run

import diffcls
from diffcls import evaluate, report
from diffcls.cli.stored_command import options_of_command
from diffcls.reports.page.error_sources import ErrorTables, rescored_tables, saved_tables
from diffcls.reports.page.results import RunResults, read_run
from diffcls.reports.page.stored_options import Images, options_of
from diffcls.runs.stored import read_runs
from diffcls.support.hub import is_offline, offline

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

FLAGS = "--limit 12 --draws 8 --threads 1 --batch-size 16 --quiet --no-check-model --json".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the bundled digits, with its error tables beside it."""
    out = tmp_path_factory.mktemp("report")
    tables = ["--save-errors", str(out / "tables")]
    assert evaluate.main([*FLAGS, *tables, "--output-dir", str(out / "results")]) == 0
    return out


@pytest.fixture(scope="module")
def results(folder: Path) -> RunResults:
    return read_run(read_runs(folder / "results").runs[0])


@pytest.fixture(scope="module")
def saved(folder: Path, results: RunResults) -> ErrorTables:
    tables = saved_tables(results, [str(folder / "no such folder"), str(folder / "tables")])
    assert tables is not None
    return tables


def test_images_scored_once_more_have_the_saved_tables_to_the_bit(
    results: RunResults, saved: ErrorTables
) -> None:
    images = Images(options_of_command).of(results.run)
    assert not isinstance(images, str)
    chosen = results.records[2:7]
    tables = rescored_tables(results, images, chosen, chosen[:2])
    assert not isinstance(tables, str)
    assert "5 of 5 rankings equal the record" in tables.source
    assert list(tables.sample) == [record.image_id for record in chosen[:2]]
    assert (tables.indices == saved.indices).all()
    for record in chosen:
        again, before = tables.races[record.image_id], saved.races[record.image_id]
        assert np.array_equal(again.table, before.table, equal_nan=True)
        assert again.label == before.label == record.label


def test_tables_of_another_run_are_not_read(folder: Path, tmp_path: Path) -> None:
    write_run(tmp_path, {"a": (0, 0)})
    other = read_run(read_runs(tmp_path).runs[0])
    assert saved_tables(other, [str(folder / "tables")]) is None


def test_the_page_shows_thumbnails_races_and_timesteps(folder: Path) -> None:
    assert report.main(["--output-dir", str(folder / "results"), "--csv"]) == 0
    reader = PageReader((folder / "results/report.html").read_text(encoding="utf-8"))
    assert "Error tables of 12 images, saved by --save-errors." in reader.text
    pictures = reader.attributes("img", "src")
    assert len(pictures) >= 12 and all(one.startswith("data:image/") for one in pictures)
    assert all(reader.attributes("img", "alt"))
    assert "Elimination order" in reader.text and "Error against timestep" in reader.text
    assert (folder / "results/report-timesteps.csv").read_text().count("\n") > 1


def test_without_rescoring_the_page_says_how_to_get_tables(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "results"
    (folder / "results").rename(moved)  # its run names the tables by their path
    (folder / "tables").rename(tmp_path / "tables")
    try:
        assert report.main(["--output-dir", str(moved), "--rescore", "0"]) == 0
        text = PageReader((moved / "report.html").read_text(encoding="utf-8")).text
        assert "No elimination order and no errors by timestep: --rescore 0" in text
        flags = ["--rescore", "0", "--errors", str(tmp_path / "tables")]
        assert report.main(["--output-dir", str(moved), *flags]) == 0
        assert "saved by --save-errors" in (moved / "report.html").read_text(encoding="utf-8")
    finally:
        moved.rename(folder / "results")
        (tmp_path / "tables").rename(folder / "tables")


def test_evaluate_reports_at_its_end_and_its_stdout_stays_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "results"
    assert evaluate.main([*FLAGS, "--report", "--output-dir", str(out)]) == 0
    printed = capsys.readouterr()
    (row,) = json.loads(printed.out)
    assert "report.html: 1 run" in printed.err
    assert f'id="run-{row["fingerprint"]}"' in (out / "report.html").read_text(encoding="utf-8")


def test_run_evaluation_reports_as_the_flag_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "results"
    (out / "report.html").unlink(missing_ok=True)
    flags = {"limit": 12, "draws": 8, "threads": 1, "batch_size": 16, "check_model": False}
    rows = diffcls.run_evaluation(**flags, quiet=True, output_dir=str(out), report=True)
    printed = capsys.readouterr()
    assert "report.html: 1 run" in printed.err and printed.out == ""
    html = (out / "report.html").read_text(encoding="utf-8")
    assert f'id="run-{rows[0]["fingerprint"]}"' in html
    assert "report" not in rows[0]


@pytest.mark.parametrize("name", ["dry_run", "multi_label"])
def test_run_evaluation_refuses_a_report_of_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(diffcls.UsageError, match="--report has no effect with --"):
        diffcls.run_evaluation(**{name: True}, report=True, output_dir=str(tmp_path))
    with pytest.raises(diffcls.UsageError, match="--report takes no value"):
        diffcls.run_evaluation(report="yes", output_dir=str(tmp_path))


def test_run_evaluation_takes_each_flag_of_the_command() -> None:
    flags = {action.dest for action in evaluate.parser()._actions} - {"help", "config"}
    shown = inspect.signature(diffcls.run_evaluation).parameters
    assert set(shown) == flags | {"command"}


@pytest.mark.parametrize("flag", ["--dry-run", "--multi-label"])
def test_evaluate_refuses_a_report_of_nothing(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["--report", flag, "--output-dir", str(tmp_path)]) == 2
    assert f"--report has no effect with {flag}" in capsys.readouterr().err


def test_the_command_of_an_older_run_gives_its_options(folder: Path, results: RunResults) -> None:
    header = {name: value for name, value in results.run.header.items() if name != "options"}
    command = str(header["command"]) + " --data-root data --method diffusion clip"
    older = type(results.run)(
        results.run.fingerprint,
        results.run.folder,
        results.run.spec,
        {**header, "command": command},
        results.run.row,
    )
    options, own = (
        options_of(older, options_of_command),
        options_of(results.run, options_of_command),
    )
    assert options is not None and own is not None
    assert list(options.method) == ["diffusion"] and (options.limit, options.draws) == (12, 8)
    # the digits are bundled: a folder of local data has no effect on them
    assert options.data_root is None


@pytest.mark.parametrize(
    "text", ["", "diffcls.run_evaluation(...)", "python -m diffcls.train", "'"]
)
def test_other_texts_are_no_command(text: str) -> None:
    assert options_of_command(text) is None


def test_nothing_is_downloaded_within_offline() -> None:
    before = is_offline()
    with offline():
        assert is_offline()
    assert is_offline() == before
