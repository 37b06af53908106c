"""A comparison of runs as text for a terminal, and its images as a CSV table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from diffcls.runs.comparison_result import (
    METHODS,
    ClassChange,
    Comparison,
    ImageAnswers,
    RunFigures,
    SeedGroup,
)
from diffcls.support.errors import UsageError
from diffcls.support.tables import align, parse_csv, text_cell, write_csv
from diffcls.support.text import printable

CLASSES_SHOWN = 5
IMAGES_SHOWN = 5
SHORT_FINGERPRINT = 8


def format_comparison(comparison: Comparison) -> str:
    """A comparison as plain text: runs, differences, seeds, classes and images."""
    part = "" if comparison.n_shared == comparison.n_images else f" OF {comparison.n_images}"
    title = (
        f"{comparison.dataset}, {comparison.split}: {comparison.n_shared}{part} images that all "
        f"{len(comparison.runs)} runs scored, {comparison.n_classes} classes"
    )
    names = _short_names([run.fingerprint for run in comparison.runs])
    blocks = [printable(title), _runs(comparison.runs, names), _differences(comparison, names)]
    if comparison.groups:
        blocks.append(_groups(comparison.groups, names))
    blocks += [_classes(comparison, names), _images(comparison.images)]
    blocks.append("\n".join(f"{name}: {text}" for name, text in _methods(comparison).items()))
    return "\n\n".join(block for block in blocks if block)


def _methods(comparison: Comparison) -> dict[str, str]:
    unused = set() if comparison.groups else {"groups"}
    unused |= {"p_holm"} if len(comparison.differences) < 2 else set()
    return {name: text for name, text in METHODS.items() if name not in unused}


def _short_names(fingerprints: Sequence[str]) -> dict[str, str]:
    """Fingerprint -> its first digits, as many as tell the runs apart."""
    length = SHORT_FINGERPRINT
    while len({name[:length] for name in fingerprints}) < len(fingerprints):
        length += 1
    return {name: name[:length] for name in fingerprints}


def _runs(runs: Sequence[RunFigures], names: dict[str, str]) -> str:
    columns = {
        "run": [names[run.fingerprint] for run in runs],
        "method": ["/".join(filter(None, (run.method, run.search))) for run in runs],
        "model": [run.model for run in runs],
        "setting": [run.setting for run in runs],
        "seed": [run.seed for run in runs],
        "accuracy [95 %]": [_interval(run.accuracy, run.ci_low, run.ci_high) for run in runs],
        "correct": [str(run.n_correct) for run in runs],
        "scored": [_scored(run) for run in runs],
        "evaluations/image": [f"{run.evaluations_per_image:,.1f}" for run in runs],
        "differs in": [", ".join(run.differs_in) or "-" for run in runs],
    }
    return _table(columns, {"seed", "correct", "scored", "evaluations/image"})


def _scored(run: RunFigures) -> str:
    asked = "?" if run.n_asked is None else str(run.n_asked)
    parts = [f"{run.n_failed} failed"] if run.n_failed else []
    parts += ["partial"] if run.status != "complete" else []
    count = str(run.n_scored) if asked == str(run.n_scored) else f"{run.n_scored} of {asked}"
    return count + (f" ({', '.join(parts)})" if parts else "")


def _differences(comparison: Comparison, names: dict[str, str]) -> str:
    rows = comparison.differences
    against = f"minus {names[comparison.runs[0].fingerprint]}"
    columns = {
        "run": [names[one.fingerprint] for one in rows],
        f"{against} [95 %]": [_signed(one.difference, one.ci_low, one.ci_high) for one in rows],
        "p": [_p(one.p_value) for one in rows],
        "p (Holm)": [_p(one.p_holm) for one in rows] if len(rows) > 1 else [],
        "gained": [str(one.n_gained) for one in rows],
        "lost": [str(one.n_lost) for one in rows],
        "same answer": [str(one.n_same_answer) for one in rows],
        "cost": ["" if one.cost_ratio is None else f"× {one.cost_ratio:.3g}" for one in rows],
    }
    right = {"p", "p (Holm)", "gained", "lost", "same answer", "cost"}
    return _table({name: cells for name, cells in columns.items() if cells}, right)


def _groups(groups: Sequence[SeedGroup], names: dict[str, str]) -> str:
    others = groups[1:]
    columns = {
        "seeds of": [names[group.fingerprints[0]] for group in groups],
        "seeds": [" ".join(group.seeds) for group in groups],
        "mean accuracy [95 %]": [_interval(g.accuracy, g.ci_low, g.ci_high) for g in groups],
        "lowest, highest": [f"{100 * g.lowest:.1f}, {100 * g.highest:.1f} %" for g in groups],
    }
    if others:
        cells = [_signed(g.difference, g.difference_low, g.difference_high) for g in others]
        columns[f"minus {names[groups[0].fingerprints[0]]} [95 %]"] = ["", *cells]
        columns["p"] = ["", *(_p(group.p_value) for group in others)]
    if len(others) > 1:
        columns["p (Holm)"] = ["", *(_p(group.p_holm) for group in others)]
    return _table(columns, {"p", "p (Holm)"})


def _classes(comparison: Comparison, names: dict[str, str]) -> str:
    lines = []
    for one in comparison.differences:
        for word, changes in (("gained", one.classes_gained), ("lost", one.classes_lost)):
            if changes:
                shown = "; ".join(map(_change, changes[:CLASSES_SHOWN]))
                more = len(changes) - CLASSES_SHOWN
                rest = f"; and {more} classes more" if more > 0 else ""
                lines.append(f"{names[one.fingerprint]} {word} most in: {shown}{rest}")
    return "\n".join(lines)


def _change(one: ClassChange) -> str:
    return printable(f"{one.name} {one.change:+d} ({one.before} to {one.after} of {one.n})")


def _images(images: Sequence[ImageAnswers]) -> str:
    count = "1 image" if len(images) == 1 else f"{len(images)} images"
    lines = [f"answers differ on {count}{', such as' if len(images) > IMAGES_SHOWN else ''}"]
    for image in images[:IMAGES_SHOWN]:
        answers = " | ".join(map(image.name_of, image.answers))
        lines.append(printable(f"  {image.image_id}: {image.name_of(image.label)}; {answers}"))
    if len(images) > IMAGES_SHOWN:
        lines.append("  (--csv FILE writes all of them)")
    return "\n".join(lines)


def _table(columns: dict[str, list[str]], right: set[str]) -> str:
    lines = [
        list(columns),
        *(list(map(printable, row)) for row in zip(*columns.values(), strict=True)),
    ]
    return align(lines, right)


def _interval(value: float, low: float | None, high: float | None) -> str:
    limits = "not defined" if low is None or high is None else f"{100 * low:.1f}, {100 * high:.1f}"
    return f"{100 * value:.1f} % [{limits}]"


def _signed(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ""
    limits = "not defined"
    if low is not None and high is not None:
        limits = f"{100 * low:+.1f}, {100 * high:+.1f}"
    return f"{100 * value:+.1f} [{limits}]"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


# ---- the table of images -------------------------------------------------------------------------


def check_csv(path: Path) -> None:
    """Refuse a file that cannot be a new table, before any record is read.

    Raises:
        UsageError: for another suffix, a folder that does not exist, or a path that is no file.
    """
    is_other = os.path.exists(path) and not os.path.isfile(path)
    if path.suffix.lower() != ".csv" or is_other or not os.path.isdir(path.parent):
        raise UsageError(
            "--csv cannot write this file",
            given=str(path),
            allowed="a .csv file in an existing folder",
            todo="choose another",
        )


def write_images(path: Path, comparison: Comparison) -> None:
    """Write the images on which runs differ: ``image_id, label``, and three columns per run.

    The columns of a run are ``answer_F``, ``probability_F`` of its answer and
    ``label_probability_F``, F being its fingerprint; probabilities that are not defined are empty.
    Labels and answers are class indices, each followed by its name if the classes have names.

    Raises:
        UsageError: for a file with other content, which is left unchanged.
        RecordError: for a file that cannot be written.
    """
    lines = image_table(comparison)
    if path.exists():
        try:
            same = parse_csv(path.read_bytes().decode("utf-8")) == lines
        except (OSError, ValueError):
            same = False
        if not same:
            raise UsageError(
                "--csv names a file with other content",
                given=str(path),
                todo="choose another name, or delete it",
            )
    write_csv(path, lines)


def image_table(comparison: Comparison) -> list[list[str]]:
    """The header and the lines of the table, see `write_images`."""
    head = ["image_id", "label", "label_name"]
    for run in comparison.runs:
        f = run.fingerprint
        head += [f"answer_{f}", f"answer_name_{f}", f"probability_{f}", f"label_probability_{f}"]
    lines = [head]
    for image in comparison.images:
        line = [image.image_id, str(image.label), image.name_of(image.label)]
        for answer, probability in zip(image.answers, image.probabilities, strict=True):
            line += [str(answer), image.name_of(answer)]
            line += ["", ""] if probability is None else [f"{p:.6g}" for p in probability]
        lines.append([text_cell(cell) for cell in line])
    return lines
