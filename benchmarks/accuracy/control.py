"""Control benchmark: do samples follow the given edges, and what do they leave to the words?

Samples are generated from the sentences and the edges of test images, and the edges of the samples
are compared with the given ones. Then the same images are classified plainly and given their edges:
what the edges show already, such as the shape, is no longer decided by the prompt.

Writes ``control.csv``, ``CONTROL.md`` and ``control.png``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.accuracy.edited_scenes import PARTS
from benchmarks.accuracy.rejection import TABLES, command_of
from benchmarks.core.compare import records_of
from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import (
    SIX_DIGITS,
    environment_of,
    markdown,
    read_rows,
    record_environment,
    write_rows,
)
from diffcls.data.scenes.grammar import Kind, parse
from diffcls.metrics.edges import boundary_f1
from diffcls.metrics.statistics import bootstrap_interval, newcombe_interval, wilson_interval
from diffcls.support.environment import commit
from diffcls.support.files import write_text
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.runs.record import Record

NAME, COMMAND = "control", "python -m benchmarks.run control"
DATASET, MODEL, CONTROL, NET = "scenes/attributes", "scenes", "canny", "control-scenes"
SAMPLES, IMAGES, STEPS, GUIDANCE = 200, 150, 25, 2.0
DRAWS = (1, 10)
"""Draws per class at most: one, at which answers are still wrong, and enough for right ones."""
TOLERANCE_PIXELS = 1.0
TARGET_F1 = 0.8
PICTURES = 8
F1, ACCURACY, MARGIN = "edge F1", "accuracy", "margin"
COLUMNS = (
    *("measure", "draws", "what", "n", "value", "ci_low", "ci_high", "evaluations_per_image"),
    *("model", "revision", "fingerprint", "command", "commit"),
)


def _main(arguments: list[str]) -> int:
    p = parser(NAME, __doc__)
    add_report_only(p)
    p.add_argument("--samples", type=int, default=SAMPLES, metavar="N", help=f"({SAMPLES})")
    p.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"({IMAGES})")
    p.add_argument("--net", default=NET, metavar="NAME", help=f"ControlNet ({NET})")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        from diffcls.support.environment import set_threads

        set_threads(1)
        rows = [*agreement(flags.samples, flags.net, output)]
        for draws in DRAWS:
            rows += classification(flags.images, draws, flags.net, output)
        write_rows(output / "control.csv", rows, COLUMNS, SIX_DIGITS)
        record_environment(output, NAME)
    write_text(output / "CONTROL.md", "\n".join(page(read_rows(output / "control.csv"), output)))
    return 0


main = entry_point(_main)


def agreement(count: int, net: str, output: Path) -> list[dict[str, Any]]:
    """Rows of F1: of the autoencoder alone, of samples with the edges, and of those without.

    Args:
        count: number of samples.
        net: name of the ControlNet.
        output: folder of the picture.
    """
    import torch

    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.models import control, given
    from diffcls.support.environment import denormals_flushed
    from diffcls.training.stored_images import tensor_of

    data, _ = choose(load_dataset(DATASET, "test", None), count)
    images, labels = tensor_of(data, 32)
    texts = [data.class_names[label] for label in labels]
    plain = given.load(MODEL, "cpu", None, None)
    steered = control.steered(plain, net)
    edges = maps_of(images)
    with denormals_flushed():
        with torch.inference_mode():
            decoded = torch.cat(
                [plain.decode_latents(plain.encode_images(x)) for x in images.split(50)]
            ).clamp(-1, 1)
        maps = control.encoded(steered, edges)
        runs = {
            "autoencoder alone": decoded,
            "samples given the edges": generated(steered, texts, maps=maps),
            "samples without": generated(plain, texts),
        }
    picture(output / "control.png", images, edges, [*runs.values()][1:])
    common = {"model": MODEL, "revision": steered.card.revision, "command": COMMAND}
    rows = []
    for what, made in runs.items():
        scores = agreements(made, edges)
        rows.append({"measure": F1, "what": what, **_mean(scores), **common, "commit": commit()})
    return rows


def generated(denoiser: Any, texts: Sequence[str], **maps: Any) -> Tensor:
    """(N, 3, H, W) a sample of each sentence."""
    import torch

    from diffcls.generation.sample import sample

    batches = sample(
        denoiser,
        texts,
        range(len(texts)),
        scale=GUIDANCE,
        steps=STEPS,
        batch_size=min(50, len(texts)),
        **maps,
    )
    return torch.cat([batch.images for batch in batches])


def maps_of(images: Tensor) -> Tensor:
    """(N, 3, H, W) edges in [0, 1] of images in [−1, 1]."""
    from torch import from_numpy

    from diffcls.data.edges import edge_map

    return from_numpy(np.stack([edge_map(CONTROL, image) for image in images.numpy()]))


def agreements(images: Tensor, edges: Tensor) -> Float64:
    """(N,) F1 of the edges of images against the given ones."""
    found = maps_of(images)[:, 0].numpy() > 0
    given = edges[:, 0].numpy() > 0
    pairs = zip(found, given, strict=True)
    return np.array([boundary_f1(one, other, TOLERANCE_PIXELS) for one, other in pairs])


def classification(count: int, draws: int, net: str, output: Path) -> list[dict[str, Any]]:
    """Rows of accuracy and margins: plain, given the edges, and their difference.

    Args:
        count: number of test images.
        draws: draws per class at most.
        net: name of the ControlNet.
        output: folder of the results, below which the runs are stored.
    """
    from diffcls.evaluation.run import run_evaluation

    shared: dict[str, Any] = {"dataset": DATASET, "model": MODEL, "limit": count, "draws": draws}
    variants = {"plain": {}, "given the edges": {"control": CONTROL, "control_model": net}}
    rows, answers, margins = [], {}, {}
    for what, own in variants.items():
        options = {**shared, **own}
        (run,) = run_evaluation(
            **options, threads=1, device="cpu", output_dir=str(output / TABLES), quiet=True
        )
        records = records_of(output / TABLES, run["fingerprint"])
        common = {name: run[name] for name in ("revision", "fingerprint", "commit")}
        common |= {"model": MODEL, "draws": draws, "command": command_of(options)}
        common["evaluations_per_image"] = float(run["evaluations_per_image"])
        answers[what] = {name: _predicted(record) for name, record in records.items()}
        margins[what] = _margins(records)
        for part in ("all", *PARTS):
            right = sum(_is_right(*pair, part) for pair in answers[what].values())
            low, high = wilson_interval(right, len(records))
            values = {"value": right / len(records), "ci_low": low, "ci_high": high}
            name = f"{what}, {part}"
            rows.append({"measure": ACCURACY, "what": name, "n": len(records), **values, **common})
        for part, values_of_images in margins[what].items():
            name = f"{what}, {part}"
            rows.append({"measure": MARGIN, "what": name, **_mean(values_of_images), **common})
    plain, edged = (answers[what] for what in variants)
    pairs = [(_is_right(*edged[i], "all"), _is_right(*plain[i], "all")) for i in plain]
    counts = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True))]
    counts.append(pairs.count((False, False)))
    low, high = newcombe_interval(*counts)
    values = {"value": (counts[1] - counts[2]) / len(pairs), "ci_low": low, "ci_high": high}
    what = "given the edges, minus plain"
    rows.append({"measure": ACCURACY, "what": what, "n": len(pairs), **values, **common})
    return rows


def _predicted(record: Record) -> tuple[Kind, Kind]:
    """Kind that an image is said to show, and the one that it shows."""
    names = _names()
    said, shown = (parse(names[k]).first.kind for k in (record.ranking[0], record.label))
    return said, shown


def _names() -> tuple[str, ...]:
    from diffcls.data.scenes.tasks import SINGLE_OBJECTS

    return SINGLE_OBJECTS


def _is_right(said: Kind, shown: Kind, part: str) -> bool:
    return said == shown if part == "all" else getattr(said, part) == getattr(shown, part)


def _margins(records: Mapping[str, Record]) -> dict[str, Float64]:
    """(n,) per attribute: score of the image's class above the best that differs in it alone."""
    kinds = [parse(name).first.kind for name in _names()]
    margins: dict[str, list[float]] = {part: [] for part in PARTS}
    for record in records.values():
        own = kinds[record.label]
        for part in PARTS:
            others = [
                k
                for k, kind in enumerate(kinds)
                if kind != own
                and all(getattr(kind, p) == getattr(own, p) for p in PARTS if p != part)
            ]
            score = np.array(record.scores, dtype=np.float64)  # None becomes NaN
            margins[part].append(float(score[record.label] - np.nanmax(score[others])))
    return {part: np.array(values) for part, values in margins.items()}


def _mean(values: Float64) -> dict[str, Any]:
    low, high = bootstrap_interval(values, seed=0)
    return {"n": len(values), "value": float(values.mean()), "ci_low": low, "ci_high": high}


def picture(path: Path, images: Tensor, edges: Tensor, samples: Sequence[Tensor]) -> None:
    """Rows of images, their edges, and samples with and without these, four times as large."""
    from PIL import Image

    from diffcls.generation.image_grid import to_bytes

    rows = [images, edges * 2 - 1, *samples]
    cells = [np.concatenate(list(to_bytes(row[:PICTURES])), axis=1) for row in rows]
    whole = Image.fromarray(np.concatenate(cells))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.resize((whole.width * 3, whole.height * 3), Image.Resampling.NEAREST).save(path)


def page(rows: Sequence[Mapping[str, Any]], output: Path) -> Iterator[str]:
    """The lines of CONTROL.md."""
    by_name = {(row["measure"], row.get("draws"), row["what"]): row for row in rows}
    f1 = by_name[F1, None, "samples given the edges"]
    context = environment_of(output, NAME)
    yield from ("# Classification and samples given the edges", "")
    yield (
        f"Written by `{COMMAND}` from `control.csv`; {context['environment']}. Model `{MODEL}` "
        f"with the ControlNet `{NET}`, test images of {DATASET}; edges are OpenCV's Canny. "
        f"Samples are made from the sentence and the edges of each image ({STEPS} steps, guidance "
        f"{GUIDANCE:g}), and their own edges compared with the given ones: boundary F1 at "
        f"{TOLERANCE_PIXELS:g} px, a mean over images with its bootstrap interval. The autoencoder "
        "alone, which encodes and decodes the image itself, is the most that samples can reach."
    )
    yield ""
    yield from _table([row for row in rows if row["measure"] == F1], "edges of", "F1", "{:.3f}")
    met = "met" if f1["value"] >= TARGET_F1 else "not met"
    yield from ("", f"- F1 of {f1['value']:.3f}, at least {TARGET_F1}: {met}.", "")
    yield from ("![Images, edges, samples given the edges, samples without](control.png)", "")
    yield (
        "Rows: test images; their edges; samples given sentence and edges; samples from the "
        "sentence alone."
    )
    yield from ("", "## Accuracy given the edges", "")
    yield (
        f"The same images, plainly and with `--control {CONTROL}`, racing with at most 1 or "
        f"{DRAWS[-1]} draws per class. An attribute is right if the answer has it. The interval of "
        "the difference is Newcombe's, of paired proportions; the others are Wilson's."
    )
    yield ""
    yield from _table([row for row in rows if row["measure"] == ACCURACY], "accuracy", "", "{:.1%}")
    yield ""
    yield (
        "Margins: the score of the right class above the best one that differs from it in that "
        "attribute alone; the mean over images, in units of the error. It falls as far as the "
        "edges show the attribute already; what is left is decided by the words: a wrong one "
        "spoils the prediction even where the edges contradict it."
    )
    yield ""
    yield from _table([row for row in rows if row["measure"] == MARGIN], "margin", "", "{:.4f}")
    yield from ("", *_shares(by_name), "")
    yield from ("Commands:", "", *(f"- `{one}`" for one in _commands(rows)), "")


def _table(rows: Sequence[Mapping[str, Any]], title: str, value: str, form: str) -> list[str]:
    return markdown(
        rows,
        {
            title: lambda row: str(row["what"]),
            **({"draws": lambda row: str(row["draws"])} if rows[0].get("draws") else {}),
            "images": lambda row: str(row["n"]),
            value or "value": lambda row: form.format(row["value"]),
            "95 % interval": lambda row: (
                f"{form.format(row['ci_low'])} to {form.format(row['ci_high'])}"
            ),
        },
    )


def _shares(by_name: Mapping[tuple[str, int | None, str], Mapping[str, Any]]) -> Iterator[str]:
    for part in PARTS:
        plain, edged = (
            by_name[MARGIN, DRAWS[-1], f"{what}, {part}"]["value"]
            for what in ("plain", "given the edges")
        )
        left = f"{edged / plain:.0%} of the plain margin is left given the edges"
        yield f"- {part}: {left}, at {DRAWS[-1]} draws."


def _commands(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(row["command"]) for row in rows))
