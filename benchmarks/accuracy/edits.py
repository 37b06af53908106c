"""Edits benchmark: do word swaps change the named attribute, and nothing else?

Test images of one object each are described by their sentence, of which one word is exchanged: the
colour, the shape or the size. An independent classifier, a CLIP that shares no weights with the
diffusion model, says what the edit shows among all 96 combinations. Null edits (equal prompts) are
compared with the autoencoder alone.

Writes ``edits.csv`` and ``EDITS.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.judge import Judge
from benchmarks.accuracy.pointing import dilated, object_mask
from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, read_rows, record_environment, write_rows
from diffcls.data.scenes.grammar import COLOURS, SHAPES, SIZES, Group, Kind
from diffcls.metrics.statistics import wilson_interval
from diffcls.support.environment import commit
from diffcls.support.files import write_text
from diffcls.support.seeding import key

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from diffcls.data.dataset import Item

NAME, COMMAND = "edits", "python -m benchmarks.run edits"
DATASET, MODEL, JUDGE = "scenes/attributes", "scenes", "clip-scenes"
IMAGES = 200
PARTS = {"colour": COLOURS, "shape": SHAPES, "size": SIZES}
MARGIN_PIXELS = 2
"""Pixels around an object, before and after the edit, that are its edge."""
TARGETS = {"null": 1.0, "swap": 0.7}
"""Most decibels that a null edit loses, and least share of successful swaps."""
COLUMNS = (
    *("edit", "n", "rate", "ci_low", "ci_high", "other_attributes_kept", "changed_outside"),
    *("psnr", "psnr_of_autoencoder", "evaluations", "model", "revision", "judge"),
    *("judge_accuracy", "command", "commit"),
)


@dataclass(frozen=True)
class Outcome:
    """One edited image.

    Args:
        is_right: whether the judge sees the target.
        keeps_others: whether it sees the attributes that were not named as they were.
        outside: share of the pixels outside the object that changed.
        psnr, psnr_of_autoencoder: of the edit and of the mere reconstruction, against the image.
    """

    is_right: bool
    keeps_others: bool
    outside: float
    psnr: float
    psnr_of_autoencoder: float


def _main(arguments: list[str]) -> int:
    p = parser(NAME, __doc__)
    add_report_only(p)
    p.add_argument("--limit", type=int, default=IMAGES, metavar="N", help=f"images ({IMAGES})")
    p.add_argument("--steps", type=int, default=50, metavar="N", help="of each edit (50)")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        write_rows(output / "edits.csv", measure(flags.limit, flags.steps), COLUMNS, SIX_DIGITS)
        record_environment(output, NAME, steps=flags.steps)
    write_text(output / "EDITS.md", "\n".join(page(read_rows(output / "edits.csv"), output)))
    return 0


main = entry_point(_main)


def measure(images: int, steps: int) -> list[dict[str, Any]]:
    """The rows: null edits, swaps of each attribute, and all swaps.

    Args:
        images: number of test images, a stratified sample.
        steps: levels of the path of an edit.
    """
    import torch

    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.editing.edit import edit, inverted
    from diffcls.editing.options import EditSettings
    from diffcls.models import given
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(1)
    data, _ = choose(load_dataset(DATASET, "test", None), images)
    denoiser = given.load(MODEL, "cpu", None, None)
    judge = KindJudge(data.class_names)
    settings = EditSettings(steps=steps)
    outcomes: dict[str, list[Outcome]] = {"null": [], **{part: [] for part in PARTS}}
    with denormals_flushed():
        for number, item in enumerate(data.items):
            kind = kind_of(item)
            part = list(PARTS)[number % len(PARTS)]
            pixels = torch.from_numpy(to_pixels(load_image(item.open()), denoiser.image_size))
            source = str(Group(kind))
            inversion = inverted(denoiser, pixels, source, steps)  # of both edits
            for name, target in (("null", kind), (part, swapped(kind, part, item.image_id))):
                found = edit(denoiser, pixels, source, str(Group(target)), settings, inversion)
                outcomes[name].append(outcome_of(judge, item, target, pixels, found))
    common = {
        # of the inversion, and of both prompts with and without guidance
        "evaluations": (steps - 1) * 5,
        "model": MODEL,
        "revision": denoiser.card.revision,
        "judge": JUDGE,
        "judge_accuracy": judge.accuracy(data.items),
        "command": COMMAND,
        "commit": commit(),
    }
    swaps = [one for part in PARTS for one in outcomes[part]]
    return [
        {**row(name, some), **common} for name, some in {**outcomes, "all swaps": swaps}.items()
    ]


def row(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of one kind of edit."""
    right = sum(one.is_right for one in outcomes)
    low, high = wilson_interval(right, len(outcomes))
    return {
        "edit": name,
        "n": len(outcomes),
        "rate": right / len(outcomes),
        "ci_low": low,
        "ci_high": high,
        "other_attributes_kept": float(np.mean([one.keeps_others for one in outcomes])),
        "changed_outside": float(np.mean([one.outside for one in outcomes])),
        "psnr": float(np.mean([one.psnr for one in outcomes])),
        "psnr_of_autoencoder": float(np.mean([one.psnr_of_autoencoder for one in outcomes])),
    }


def kind_of(item: Item) -> Kind:
    """The combination that a scene of one object shows."""
    scene, _ = item.open.args  # type: ignore[attr-defined]
    kind: Kind = scene.first.kind
    return kind


def swapped(kind: Kind, part: str, image_id: str) -> Kind:
    """The combination with another value of an attribute, chosen by the image's id."""
    others = [value for value in PARTS[part] if value != getattr(kind, part)]
    return Kind(**{**vars(kind), part: others[key("edit", image_id) % len(others)]})


def outcome_of(judge: KindJudge, item: Item, target: Kind, pixels: Tensor, result: Any) -> Outcome:
    """The outcome of one edit.

    Args:
        judge: the independent classifier.
        item: the scene.
        target: what the edit is to show.
        pixels: (3, H, W) in [−1, 1], the image.
        result: the edit, with ``image`` and ``reconstruction``.
    """
    from diffcls.data.transforms import to_image
    from diffcls.editing.change_region import changed_pixels

    kind, seen = kind_of(item), judge(to_image(result.image))
    named = {part for part in PARTS if getattr(kind, part) != getattr(target, part)}
    changed = changed_pixels(result.image, result.reconstruction).numpy()
    outside = outside_object(item, result.image)
    return Outcome(
        is_right=seen == target,
        keeps_others=all(
            getattr(seen, part) == getattr(kind, part) for part in PARTS if part not in named
        ),
        outside=float(changed[outside].mean()),
        psnr=psnr(result.image, pixels),
        psnr_of_autoencoder=psnr(result.reconstruction, pixels),
    )


def outside_object(item: Item, image: Tensor) -> NDArray[np.bool_]:
    """(H, W) pixels outside the object of a scene and of its edit (3, H, W), and of their edges."""
    outside: NDArray[np.bool_] = ~dilated(object_mask(item), MARGIN_PIXELS) & ~new_object(image)
    return outside


def new_object(image: Tensor) -> NDArray[np.bool_]:
    """(H, W) pixels of the object in an edited scene: they are colourful, the background is not."""
    values = image.numpy() * 127.5
    colourful: NDArray[np.bool_] = values.max(axis=0) - values.min(axis=0) > COLOURFUL
    return dilated(colourful, MARGIN_PIXELS)


COLOURFUL = 60
"""Difference of the largest and smallest channel, of 255, in objects; in backgrounds it is less."""


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio of images in [−1, 1], in decibels: 10·log10(2²/MSE)."""
    error = float((image - reference).double().square().mean())
    return float(10 * np.log10(4 / max(error, 1e-12)))


class KindJudge:
    """The independent classifier, among combinations.

    Args:
        names: sentences of all combinations.
    """

    def __init__(self, names: Sequence[str]) -> None:
        from diffcls.data.scenes.grammar import KINDS

        self._judge = Judge(JUDGE, names, ["{}"])
        of_sentence = {str(Group(kind)): kind for kind in KINDS}
        self._kinds = [of_sentence[name] for name in names]

    def __call__(self, picture: Image.Image) -> Kind:
        """The combination that a picture shows."""
        return self._kinds[int(self._judge([picture])[0])]

    def accuracy(self, items: Sequence[Item]) -> float:
        """Share of real images on which it is right."""
        return float(np.mean([self(item.open()) == kind_of(item) for item in items]))


def page(rows: Sequence[dict[str, Any]], output: Path) -> Iterator[str]:
    """Lines of EDITS.md."""
    from benchmarks.core.tables import environment_of, markdown
    from diffcls.editing.change_region import GREY_VALUES

    first = rows[0]
    yield "# Edits by two prompts"
    yield ""
    yield (
        f"Written by `{COMMAND}` from `edits.csv`; {environment_of(output, NAME)['environment']}. "
        f"{first['n']} test images of {DATASET}, edited by the model {first['model']} with the "
        f"defaults of `diffcls edit`; one word of each sentence is exchanged. `{first['judge']}`, "
        f"which is right on {first['judge_accuracy']:.1%} of the real images, says what an edit "
        "shows among all 96 combinations; intervals are Wilson's. Outside is the share of the "
        f"pixels that differ by more than {GREY_VALUES} grey values from the reconstruction, "
        f"outside the object before and after the edit and {MARGIN_PIXELS} pixels around it. An "
        f"edit takes {first['evaluations']} evaluations."
    )
    yield ""
    yield from markdown(
        rows,
        {
            "exchanged": lambda r: r["edit"],
            "images": lambda r: f"{r['n']}",
            "shows the target": lambda r: f"{r['rate']:.1%}",
            "95 % interval": lambda r: f"{r['ci_low']:.1%} to {r['ci_high']:.1%}",
            "other attributes kept": lambda r: f"{r['other_attributes_kept']:.1%}",
            "changed outside": lambda r: f"{r['changed_outside']:.1%}",
            "PSNR, dB": lambda r: f"{r['psnr']:.2f}",
            "of the autoencoder, dB": lambda r: f"{r['psnr_of_autoencoder']:.2f}",
        },
    )
    yield ""
    yield from verdicts(rows)
    yield ""


def verdicts(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The targets, each with the measured value."""
    by_name = {row["edit"]: row for row in rows}
    lost = by_name["null"]["psnr_of_autoencoder"] - by_name["null"]["psnr"]
    verdict = "met" if lost <= TARGETS["null"] else "missed"
    yield f"- Null edits lose {lost:.2f} dB, at most {TARGETS['null']:g}: {verdict}."
    rate = by_name["all swaps"]["rate"]
    verdict = "met" if rate >= TARGETS["swap"] else "missed"
    yield (
        f"- {rate:.1%} of the swaps change the named attribute and no other, at least "
        f"{TARGETS['swap']:.0%}: {verdict}."
    )
