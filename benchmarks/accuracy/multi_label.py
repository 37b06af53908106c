"""Multi-label benchmark: which of several objects does an image show, against CLIP and chance?

Scenes of two objects; each label is decided by itself against the empty prompt, with a threshold
fitted on validation images. CLIP's statistic is its similarity to each label.
Writes ``multi_label.csv`` and ``multi_label.md``; rows of other settings are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.rejection import TABLES, command_of
from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import read_rows
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.data.scenes.objects import object_labels
from diffcls.data.subsets import choose
from diffcls.data.transforms import load_image
from diffcls.evaluation.multi_label import (
    RESAMPLES,
    TABLE,
    VALIDATION_IMAGES,
    figures,
    label_scores,
)
from diffcls.evaluation.options import EvaluationOptions
from diffcls.metrics.multi_label import fit_threshold, mean_average_precision
from diffcls.runs.metrics_table import PROVENANCE, put
from diffcls.support.files import write_text
from diffcls.support.hashing import hash_json
from diffcls.support.seeding import keyed_generator
from diffcls.support.types import Float64

COMMAND = "python -m benchmarks.run multi_label"
DATASET, IMAGES, DRAWS = "scenes/relations", 240, 20
DIFFUSION, CLIP, CHANCE = "odds against the background", "similarity of CLIP", "chance"
DIFFERENCE = f"{DIFFUSION}, minus {CLIP}"
MEANS = ("mAP", "mean F1")
SHOWN, NOT_SHOWN = "mean log-odds where shown", "mean log-odds where not shown"


def _main(arguments: list[str]) -> int:
    p = parser("multi_label", __doc__)
    add_report_only(p)
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        put(output / TABLE, measure(output))
    rows = read_rows(output / TABLE)
    text = "\n".join(_page(rows))
    write_text(output / "multi_label.md", text)
    print(text)
    return 0


main = entry_point(_main)


def measure(output: Path) -> list[dict[str, Any]]:
    """The rows of the diffusion model, of CLIP and of chance, on the same images."""
    from diffcls.evaluation.run import run_evaluation

    options: dict[str, Any] = {
        "dataset": DATASET,
        "multi_label": True,
        "limit": IMAGES,
        "draws": DRAWS,
    }
    options |= {"threads": 1, "device": "cpu"}
    rows = run_evaluation(
        **options, output_dir=str(output / TABLES), quiet=True, command=command_of(options)
    )
    common = {name: rows[0][name] for name in ("dataset", "split", "n_labels", *PROVENANCE)}
    common |= {"command": COMMAND, "evaluations_per_image": 0}
    (test, subset), (validation, _) = (
        choose(load_dataset(DATASET, split), limit)
        for split, limit in (("test", IMAGES), ("validation", VALIDATION_IMAGES))
    )
    labels, present = object_labels(test)
    name = catalog.find(DATASET).clip
    fitted_on, scores = (similarities(name, data) for data in (validation, test))
    threshold = fit_threshold(object_labels(validation)[1], fitted_on)
    clip = {"method": "clip", "model": name, "fingerprint": hash_json([COMMAND, name, IMAGES])}
    rows += [{**common, **clip, **r} for r in figures(CLIP, labels, present, scores, threshold)]
    diffusion = {name: rows[0][name] for name in ("method", "model", "fingerprint")}
    ours = label_scores(options_of_run(output), test, subset).log_odds  # stored by the run
    diffusion |= {"label": "", "n": len(test)}
    rows.append({**common, **diffusion, **difference(present, ours, scores)})
    for metric, values in ((SHOWN, ours[present]), (NOT_SHOWN, ours[~present])):
        mean = {"statistic": DIFFUSION, "metric": metric, "value": float(values.mean())}
        rows.append({**common, **diffusion, **mean})
    chance: dict[str, Any] = {
        "method": "reference",
        "model": "chance",
        "statistic": CHANCE,
        "label": "",
    }
    chance |= {"fingerprint": hash_json([COMMAND, CHANCE, IMAGES]), "n": len(test)}
    return rows + [{**common, **chance, **row} for row in by_chance(present)]


def options_of_run(output: Path) -> EvaluationOptions:
    """Options of the diffusion model's run, with which its scores are stored."""
    return EvaluationOptions(
        dataset=DATASET,
        multi_label=True,
        search="exhaustive",
        draws=DRAWS,
        device="cpu",
        output_dir=str(output / TABLES),
    )


def difference(present: np.ndarray, ours: Float64, clip: Float64) -> dict[str, Any]:
    """Mean average precision of `ours` minus that of `clip`, on the same resamples of images."""
    rng = keyed_generator(0, "bootstrap of the difference")

    def gap(i: np.ndarray) -> float:
        a, b = (mean_average_precision(present[i], scores[i]) for scores in (ours, clip))
        return a - b

    every = np.arange(len(ours))
    gaps = [gap(rng.integers(0, len(ours), len(ours))) for _ in range(RESAMPLES)]
    low, high = np.quantile(gaps, [0.025, 0.975])
    row = {"statistic": DIFFERENCE, "metric": "mAP", "value": gap(every), "n": len(ours)}
    return {**row, "ci_low": float(low), "ci_high": float(high)}


def similarities(name: str, data: Dataset) -> Float64:
    """(n, L) cosine of each image and each label, by a CLIP model."""
    import torch

    from diffcls.models import clip

    model, (labels, _) = clip.load(name), object_labels(data)
    texts = model.classifier(labels, range(len(labels)))
    pixels = [model.preprocess(load_image(item.open())) for item in data.items]
    embedded = torch.cat([model.embed(part) for part in torch.stack(pixels).split(64)])
    cosines: Float64 = (embedded @ texts.T).double().numpy()
    return cosines


def by_chance(present: np.ndarray) -> Iterator[dict[str, Any]]:
    """What scores without information reach.

    Average precision is about a label's share of the images π; the best F1 is that of assigning
    every label to every image, 2π/(1 + π).
    """
    share = present.mean(axis=0)
    yield {"metric": "mAP", "value": float(share[share > 0].mean())}
    yield {"metric": "mean F1", "value": float((2 * share / (1 + share)).mean())}


def _page(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    table = [row for row in rows if row["dataset"] == DATASET]
    by_statistic = {
        statistic: [row for row in table if row["statistic"] == statistic]
        for statistic in (DIFFUSION, CLIP, CHANCE)
    }
    first = table[0]
    yield from ("# Several labels per image: which objects does a scene show?", "")
    yield (
        f"Written by `{COMMAND}` from [multi_label.csv](multi_label.csv), which has the command, "
        f"commit and fingerprint of each figure. {first['n']} test images of `{DATASET}`, each of "
        f"two objects in a relation; {first['n_labels']} labels such as “a small red circle”, each "
        "decided by itself: the diffusion model compares the error of the label's prompt with that "
        f"of the empty prompt on the same {DRAWS} draws, CLIP has the similarity of image and "
        "label. All prompts are those of single objects. mAP is the mean over labels of average "
        f"precision. One threshold for all labels is fitted on {VALIDATION_IMAGES} validation "
        "images, by the mean F1. Intervals are of 1,000 bootstrap resamples of images, at 95 %."
    )
    yield from ("", "| statistic | mAP | mean F1 | evaluations per image |", "|---|---|---|---|")
    for statistic, own in by_statistic.items():
        means = {row["metric"]: row for row in own if not row["label"]}
        cells = " | ".join(_interval(means[metric]) for metric in MEANS)
        yield f"| {statistic} | {cells} | {means['mAP']['evaluations_per_image'] or 0:.0f} |"
    for row in (row for row in table if row["statistic"] == DIFFERENCE):
        verdict = "no difference is established"
        if row["ci_low"] > 0:
            verdict = "the diffusion model is better"
        elif row["ci_high"] < 0:
            verdict = "CLIP is better"
        yield from (
            "",
            f"mAP of the diffusion model minus that of CLIP: {_interval(row)}; {verdict}.",
        )
    odds = {row["metric"]: row["value"] for row in by_statistic[DIFFUSION]}
    if odds.get(SHOWN, 0) < 0:
        yield ""
        yield (
            f"The mean log-odds against the empty prompt are {odds[SHOWN]:.0f} where the label is "
            f"shown and {odds[NOT_SHOWN]:.0f} where it is not. Below 0 in both cases, the empty "
            "prompt predicts the noise better: the prompt of one object rules the other one out. "
            "So a fitted threshold is needed, and the odds also depend on the other object."
        )
    yield from ("", "## F1 of each label", "", f"| label | {DIFFUSION} | {CLIP} |", "|---|---|---|")
    each = {
        statistic: {row["label"]: row["value"] for row in own if row["label"]}
        for statistic, own in by_statistic.items()
    }
    for label, value in each[DIFFUSION].items():
        yield f"| {label} | {value:.3f} | {each[CLIP][label]:.3f} |"
    yield ""


def _interval(row: Mapping[str, Any]) -> str:
    if row["ci_low"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
