"""A report from stored runs: what is read, what is scored once more, and what is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffcls.data.dataset import Dataset
from diffcls.evaluation.options import EvaluationOptions
from diffcls.models.kept import models_kept
from diffcls.reports.page.counterfactuals import Counterfactuals
from diffcls.reports.page.csv_tables import HEADERS, tables
from diffcls.reports.page.error_sources import (
    ErrorTables,
    rescored_tables,
    sample_of,
    saved_tables,
    within_time,
)
from diffcls.reports.page.files import check_page, check_tables, write_page, write_tables
from diffcls.reports.page.generators import IMAGE_METHODS, generators
from diffcls.reports.page.options import ReportOptions
from diffcls.reports.page.paired import paired_groups
from diffcls.reports.page.pictures import Thumbnails
from diffcls.reports.page.rendering import Page, render
from diffcls.reports.page.results import RunResults, read_run
from diffcls.reports.page.sections import HOW_TO_SAVE, Chosen, Section, choose, section
from diffcls.reports.page.stored_options import CommandReader, Images, error_folder
from diffcls.reports.page.svg import check_extra
from diffcls.runs.record import Record
from diffcls.runs.selection import select
from diffcls.runs.stored import StoredRun, StoredRuns, read_runs
from diffcls.support.errors import UsageError

PAGE = "report.html"
RESCORED = 24
"""Images of a run that are scored once more at most, unless ``--rescore`` says otherwise."""
RESCORE_SECONDS = 60.0
"""Time for all runs together, by the times in their records, unless ``--rescore`` is given."""
GALLERY = 12
GALLERY_IMAGES = 240
"""Images of one gallery, and of each kind in all; many runs get smaller galleries."""
MIN_GALLERY = 4
RESCORABLE = "diffusion"
"""The method that has error tables."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Args:
        file: the page.
        size: its size in bytes.
        n_runs: number of sections.
        tables: CSV files.
    """

    file: Path
    size: int
    n_runs: int
    tables: Sequence[Path]

    def __str__(self) -> str:
        runs = "1 run" if self.n_runs == 1 else f"{self.n_runs} runs"
        size = self.size / 1e6
        shown = f"{size:.1f} MB" if size >= 1 else f"{self.size / 1e3:.0f} kB"
        return "\n".join([f"{self.file}: {runs}, {shown}", *map(str, self.tables)])

    def as_dict(self) -> dict[str, object]:
        """In plain JSON types."""
        return {
            "file": str(self.file),
            "bytes": self.size,
            "runs": self.n_runs,
            "tables": [str(path) for path in self.tables],
        }


def write_report(options: ReportOptions, read_command: CommandReader) -> Report:
    """Write the report of stored runs as one self-contained HTML file.

    Args:
        options: see `ReportOptions`.
        read_command: see `diffcls.reports.page.stored_options.options_of`.

    Raises:
        UsageError: for a missing extra, runs that do not exist, or a file that something else made.
        RecordError: for records or tables that cannot be read.
    """
    check_extra()
    stored = read_runs(options.output_dir)
    runs = select(stored, options.runs) if options.runs else list(stored.runs)
    if not runs:
        raise UsageError(
            "the output folder has no records to report",
            given=str(options.output_dir),
            todo="evaluate something first: python -m diffcls.evaluate",
        )
    folder = Path(str(options.output_dir))
    page = folder / PAGE if options.output is None else Path(str(options.output))
    check_page(page)
    if options.csv:
        check_tables(page.parent, HEADERS)
    edits = Counterfactuals(options.counterfactuals, folder, runs, read_command)
    sections = _Builder(options, read_command, runs, edits).sections()
    groups = paired_groups(one.results.outcomes for one in sections)
    models = dict.fromkeys(
        run.column("model") for run in runs if run.column("method") in IMAGE_METHODS
    )
    rows = _rows(stored, runs, with_missing=not options.runs)
    html = render(Page(sections, groups, rows, generators(folder, list(models))))
    size = write_page(page, html)
    written = write_tables(page.parent, tables(sections, groups)) if options.csv else []
    return Report(page, size, len(sections), written)


def _rows(
    stored: StoredRuns, runs: Sequence[StoredRun], with_missing: bool
) -> list[dict[str, str]]:
    """Rows of the leaderboard, of the runs and, if wanted, of those whose records are missing."""
    rows = [dict(run.row) for run in runs if run.row]
    return [*rows, *(dict(row) for row in stored.missing)] if with_missing else rows


class _Builder:
    """The sections of runs, with the data sets that they share."""

    def __init__(
        self,
        options: ReportOptions,
        read_command: CommandReader,
        runs: Sequence[StoredRun],
        edits: Counterfactuals,
    ) -> None:
        self.edits = edits
        self.options, self.read_command, self.runs = options, read_command, runs
        root = None if options.data_root is None else str(options.data_root)
        self.images = Images(read_command, root)
        self.pictures: dict[int, Thumbnails] = {}
        self.gallery = max(MIN_GALLERY, min(GALLERY, GALLERY_IMAGES // len(runs)))
        races = sum(run.column("method") == RESCORABLE for run in runs)
        self.seconds = RESCORE_SECONDS / max(1, races) if options.rescore is None else None

    def sections(self) -> list[Section]:
        """One section per run; runs of one model load it once."""
        with models_kept():
            return [self._section(read_run(run)) for run in self.runs]

    def _section(self, results: RunResults) -> Section:
        images = self.images.of(results.run)
        chosen = choose(results, self.gallery)
        error_tables = self._tables(results, images, chosen)
        strips = self.edits.of(results, images, chosen.wrong)
        if isinstance(images, str):
            nothing = (lambda _: None), (lambda _: ())
            return section(results, chosen, error_tables, *nothing, images, strips)
        dataset = images[0]
        key = id(dataset)
        items = {item.image_id: item for item in dataset.items}
        thumbnails = self.pictures.setdefault(key, Thumbnails(items))
        shown = thumbnails.of, _own_names(dataset)
        return section(results, chosen, error_tables, *shown, "", strips)

    def _tables(
        self,
        results: RunResults,
        images: tuple[Dataset, EvaluationOptions] | str,
        chosen: Chosen,
    ) -> ErrorTables | str:
        run = results.run
        if run.column("method") != RESCORABLE or not results.records:
            return ""
        own = error_folder(run, self.read_command)
        saved = saved_tables(results, [*self.options.errors, *([own] if own else [])])
        if saved is not None:
            return saved
        if self.options.rescore == 0:
            return f"--rescore 0. {HOW_TO_SAVE}"
        if run.spec.get("rejection"):
            return "a run with --reject has no error tables"
        if isinstance(images, str):
            return f"{images}. {HOW_TO_SAVE}"
        if self.seconds is not None and _is_elsewhere(run):
            return f"it ran on {run.header['device']}, which is not here. {HOW_TO_SAVE}"
        records, sample = self._chosen(results, chosen)
        if not records:
            return f"its images take more than a minute. {HOW_TO_SAVE}"
        found = rescored_tables(results, images, records, sample)
        return f"{found}. {HOW_TO_SAVE}" if isinstance(found, str) else found

    def _chosen(self, results: RunResults, chosen: Chosen) -> tuple[list[Record], list[Record]]:
        """Records to score once more, and those of them that are a sample of all images."""
        count = RESCORED if self.options.rescore is None else self.options.rescore
        records = results.records
        sample = sample_of(records, max(1, count // 2), results.run.fingerprint)
        pairs = zip(chosen.wrong, chosen.uncertain, strict=False)
        gallery = [*(i for pair in pairs for i in pair), *chosen.wrong, *chosen.uncertain]
        shown = [records[i] for i in gallery]
        # sample and gallery in turn, so that a short time leaves some of both
        turns = [record for pair in zip(sample, shown, strict=False) for record in pair]
        ordered = {record.image_id: record for record in [*turns, *sample, *shown]}
        return within_time(list(ordered.values())[:count], self.seconds), sample


def _own_names(dataset: Dataset) -> Callable[[str], Sequence[str]]:
    """Image id -> names of its own candidates; empty for images without any."""
    own = {
        item.image_id: [dataset.class_names[k] for k in item.candidates]
        for item in dataset.items
        if item.candidates
    }
    return lambda image_id: own.get(image_id, ())


def _is_elsewhere(run: StoredRun) -> bool:
    """Whether a run was scored on an accelerator that this machine does not have."""
    import torch

    device = str(run.header["device"])
    return device.startswith("cuda") and not torch.cuda.is_available()
