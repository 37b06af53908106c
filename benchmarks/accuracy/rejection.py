"""Rejection benchmark: are images recognised whose class is not among the candidates?

A third of the labels is withheld from the question, and nothing is trained again. Runs of
``evaluate --reject`` and of CLIP on the same images; AUROC and false-positive rate at 95 % recall,
with bootstrap intervals over images.
Writes ``rejection.csv`` and ``rejection.md``; rows of other settings are kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core.compare import records_of
from benchmarks.core.flags import (
    add_data_root,
    add_datasets,
    add_report_only,
    entry_point,
    parser,
    selected,
)
from benchmarks.core.tables import read_rows
from diffcls.data.open_set import withheld_labels
from diffcls.data.option_use import root_for
from diffcls.evaluation.rejection import (
    ACCEPTED,
    BACKGROUND,
    MARGIN,
    METRICS,
    POSTERIOR,
    REJECTED,
    RUN_COLUMNS,
    TABLE,
    figures,
)
from diffcls.metrics.rejection import (
    best_posterior,
    bootstrap_over_images,
    candidate_log_odds,
    margin,
)
from diffcls.runs.metrics_table import PROVENANCE, put, read
from diffcls.support.files import write_text
from diffcls.support.types import Float64

COMMAND = "python -m benchmarks.run rejection"
TABLES = "tables"
"""Folder of the runs below the output folder; it is not tracked."""
CLIP = "largest posterior of CLIP"
CLIP_COSINE, CLIP_MARGIN = "largest similarity of CLIP", "margin of CLIP"


@dataclass(frozen=True)
class Part:
    """One data set, with the size of its sample."""

    dataset: str
    images: int


PARTS = (Part("digits", 300), Part("fashion_mnist", 300), Part("scenes/attributes", 200))


def _main(arguments: list[str]) -> int:
    p = parser("rejection", __doc__)
    for add in (add_data_root, add_datasets, add_report_only):
        add(p)
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        for part in selected(flags, PARTS):
            put(output / TABLE, measure(part, root_for(part.dataset, flags.data_root), output))
    rows = read_rows(output / TABLE)
    text = "\n".join(_page(rows))
    write_text(output / "rejection.md", text)
    print(text)
    return 0


main = entry_point(_main)


def measure(part: Part, data_root: str | None, output: Path) -> list[dict[str, Any]]:
    """The rows of the diffusion model, of CLIP, and of the difference between them.

    Args:
        part: data set and size of the sample.
        data_root: folder of local data.
        output: output folder.
    """
    from diffcls.evaluation.run import run_evaluation

    runs_in = output / TABLES
    runs: dict[str, dict[str, Any]] = {}
    for method in ("diffusion", "clip"):
        options: dict[str, Any] = {"dataset": part.dataset, "limit": part.images}
        options |= {"data_root": data_root, "threads": 1, "device": "cpu"}
        options |= {"reject": True} if method == "diffusion" else {"method": "clip"}
        given = {name: value for name, value in options.items() if value is not None}
        (runs[method],) = run_evaluation(
            **given, output_dir=str(runs_in), quiet=True, command=command_of(given)
        )
    rejected = records_of(runs_in, runs["diffusion"]["fingerprint"])
    closed = records_of(runs_in, runs["clip"]["fingerprint"])
    ids = sorted(rejected.keys() & closed.keys())
    ours = np.array([rejected[i].scores for i in ids], dtype=np.float64)
    clip = candidates_of(np.array([closed[i].scores for i in ids], dtype=np.float64))
    unknown = np.array([rejected[i].label == ours.shape[1] - 1 for i in ids])
    scale = posterior_scale(runs_in, runs["diffusion"]["fingerprint"])
    odds = candidate_log_odds(ours[:, :-1], ours[:, -1], scale)
    statistics = {CLIP: best_posterior(clip, 1.0), CLIP_COSINE: clip.max(axis=1)}
    statistics |= {CLIP_MARGIN: margin(clip)}
    common = {name: runs["clip"][name] for name in (*RUN_COLUMNS, *PROVENANCE)}
    common |= {"n_labels": clip.shape[1], "evaluations_per_image": 0}
    rows = [{**common, **row} for row in figures(statistics, unknown, seed=0)]
    common = {name: runs["diffusion"][name] for name in (*RUN_COLUMNS, *PROVENANCE)}
    common |= {"n_labels": clip.shape[1], "command": COMMAND}
    differences = [
        {**row, "statistic": f"{BACKGROUND}, minus {name}"}
        for name in (CLIP, CLIP_COSINE)
        for row in difference(odds, statistics[name], unknown)
    ]
    own = [r for r in read(runs_in / TABLE) if r["fingerprint"] == common["fingerprint"]]
    return [*own, *rows, *({**common, **row} for row in differences)]


def command_of(options: Mapping[str, Any]) -> str:
    """The evaluate command of these options, as the tables show it."""
    words = [
        word
        for name, value in options.items()
        for word in ([f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)]))
    ]
    return shlex.join(["python", "-m", "diffcls.evaluate", *words])


def candidates_of(scores: Float64) -> Float64:
    """(n, K') scores of the labels that are not withheld, from those of all labels."""
    withheld = withheld_labels([""] * scores.shape[1], 0)
    return np.delete(scores, withheld, axis=1)


def posterior_scale(output: Path, fingerprint: str) -> float:
    """Scale of the calibrated posterior of a run."""
    from diffcls.runs.header import read_header

    return float(read_header(output / "runs" / fingerprint / "run.json")["posterior_scale"])


def difference(ours: Float64, clip: Float64, unknown: np.ndarray) -> Iterator[dict[str, Any]]:
    """Each metric of `ours` minus that of `clip`, with the interval of paired resamples."""
    pairs = [(values[~unknown], values[unknown]) for values in (ours, clip)]
    for metric, figure in METRICS.items():

        def gap(i: Any, j: Any, of: Any = figure) -> float:
            a, b = (float(of(known[i], other[j])) for known, other in pairs)
            return a - b

        low, high = bootstrap_over_images(gap, len(pairs[0][0]), len(pairs[0][1]), 0)
        every = (np.arange(len(part)) for part in pairs[0])
        row = {"metric": metric, "value": gap(*every)}
        yield {**row, "ci_low": low, "ci_high": high, "n": len(ours), "n_none": int(unknown.sum())}


def _page(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    table = list(rows)
    yield from ("# Rejection: images whose class is not among the candidates", "")
    yield (
        f"Written by `{COMMAND}` from [rejection.csv](rejection.csv), which has the command, "
        "commit and fingerprint of each figure. A third of the labels, a keyed random choice, is "
        "withheld from the question; images of these classes are to be answered “none of these”. "
        "Nothing is trained again, and all models have been trained on the withheld classes, "
        "too. AUROC: the probability that an image of a candidate class has the higher "
        "statistic than one of a withheld class. FPR95: the share of images of withheld classes "
        "that are accepted where 95 % of the others are. Intervals are of 2,000 bootstrap "
        "resamples of images, the two kinds apart, at 95 %; where all images are separated, "
        "they have no width. The scale and offset of the posterior are fitted on 200 validation "
        "images; the two metrics depend on the scale alone."
    )
    for part in PARTS:
        own = [row for row in table if row["dataset"] == part.dataset]
        if own:
            yield from _section(part.dataset, own)
    yield ""


def _section(dataset: str, rows: list[Mapping[str, Any]]) -> Iterator[str]:
    first = rows[0]
    yield from ("", f"## {dataset}", "")
    yield (
        f"{first['n']} test images, {first['n_none']} of them of none of the {first['n_labels']} "
        "candidates."
    )
    yield from ("", "| statistic | AUROC | FPR95 | evaluations per image |", "|---|---|---|---|")
    by_statistic: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_statistic.setdefault(row["statistic"], {})[row["metric"]] = row
    for statistic in (BACKGROUND, POSTERIOR, MARGIN, CLIP, CLIP_COSINE, CLIP_MARGIN):
        if statistic in by_statistic:
            row = by_statistic[statistic]
            cells = " | ".join(_interval(row[metric]) for metric in METRICS)
            yield f"| {statistic} | {cells} | {row['AUROC']['evaluations_per_image'] or 0:.0f} |"
    own = by_statistic[BACKGROUND]
    if ACCEPTED in own:
        yield ""
        yield (
            "The answer at the offset fitted on validation images: a candidate for "
            f"{_interval(own[ACCEPTED])} of the images of candidate classes, none of these for "
            f"{_interval(own[REJECTED])} of the others."
        )
    for name in (CLIP, CLIP_COSINE):
        if (gaps := by_statistic.get(f"{BACKGROUND}, minus {name}")) is not None:
            yield from ("", _verdict(name, gaps))


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"


def _verdict(name: str, own: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence for each metric: which is better, or that no difference is established."""
    sentences = []
    for metric, row in own.items():
        # a low false-positive rate is good
        low, high = row["ci_low"], row["ci_high"]
        low, high = (low, high) if metric == "AUROC" else (-high, -low)
        verdict = "no difference is established"
        if low > 0:
            verdict = "the background prompt is better"
        elif high < 0:
            verdict = "CLIP is better"
        sentences.append(f"{metric}: {verdict} ({_interval(row)}).")
    return f"Against the {name}: {' '.join(sentences)}"
