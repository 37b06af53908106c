"""Instructions benchmark: does an instructed edit change what was named, and nothing else?

The images and exchanged attributes are those of the benchmark ``edits``, so are the judge and what
counts as right; here a sentence says what to change ("make the red square blue"). Some of the
combinations that are asked for were held out of the training of both models.

The scales of the guidance are chosen on validation images of other scenes; the test images are
edited with the defaults of ``diffcls edit``.

Writes ``instructions.csv``, ``instructions_validation.csv`` and ``INSTRUCTIONS.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.accuracy.edited_scenes import (
    DATASET,
    JUDGE,
    MARGIN_PIXELS,
    PARTS,
    KindJudge,
    Outcome,
    kind_of,
    outcome_of,
    row,
    swapped,
)
from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, read_rows, record_environment, write_rows
from diffcls.data.scenes.grammar import Kind
from diffcls.data.scenes.instructions import attribute_edit, keyed_instruction
from diffcls.editing.options import InstructSettings
from diffcls.support.environment import commit
from diffcls.support.files import write_text

if TYPE_CHECKING:
    from diffcls.data.dataset import Item

NAME, COMMAND = "instructions", "python -m benchmarks.run instructions"
MODEL = "scenes-instruct"
IMAGES, VALIDATION_IMAGES = 200, 80
GRID = tuple(product((1.5, 2.0, 3.0), (1.2, 1.5)))
"""Scales of the guidance by the instruction and by the image, of which the defaults are chosen."""
BATCH = 20
"""Images edited together."""
TARGET = 0.7
"""Least share of edits that change the named attribute and no other."""
ALL, HELD_OUT = "all changes", "of these, to a held-out combination"
COLUMNS = (
    *("change", "n", "rate", "ci_low", "ci_high", "other_attributes_kept", "changed_outside"),
    *("psnr", "psnr_of_autoencoder", "guidance", "image_guidance", "evaluations", "model"),
    *("revision", "judge", "judge_accuracy", "command", "commit"),
)
VALIDATION_COLUMNS = (
    *("guidance", "image_guidance", "n", "rate", "ci_low", "ci_high", "other_attributes_kept"),
    *("changed_outside", "command", "commit"),
)


def _main(arguments: list[str]) -> int:
    p = parser(NAME, __doc__)
    add_report_only(p)
    p.add_argument("--limit", type=int, default=IMAGES, metavar="N", help=f"images ({IMAGES})")
    most = f"validation images, for each choice of the scales ({VALIDATION_IMAGES})"
    p.add_argument("--validation", type=int, default=VALIDATION_IMAGES, metavar="N", help=most)
    p.add_argument("--model", default=MODEL, metavar="NAME", help=f"the editor ({MODEL})")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    tables = output / "instructions.csv", output / "instructions_validation.csv"
    if not flags.report_only:
        rows, choices = measure(flags.model, flags.limit, flags.validation)
        write_rows(tables[0], rows, COLUMNS, SIX_DIGITS)
        write_rows(tables[1], choices, VALIDATION_COLUMNS, SIX_DIGITS)
        record_environment(output, NAME)
    write_text(
        output / "INSTRUCTIONS.md",
        "\n".join(page(read_rows(tables[0]), read_rows(tables[1]), output)),
    )
    return 0


main = entry_point(_main)


def measure(
    model: str, images: int, validation: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the test images, and those of the scales on validation images.

    Args:
        model: the editor.
        images, validation: number of test and of validation images, stratified samples.
    """
    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.models import given
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(1)
    data, _ = choose(load_dataset(DATASET, "test", None), images)
    others, _ = choose(load_dataset(DATASET, "validation", None), validation)
    denoiser = given.load(model, "cpu", None, None, editor=True)
    judge, usual = KindJudge(data.class_names), InstructSettings()
    same = {"command": COMMAND, "commit": commit()}
    choices = []
    with denormals_flushed():
        for text, image in GRID:
            settings = InstructSettings(guidance=text, image_guidance=image)
            found = [one for _, one in outcomes(denoiser, judge, others.items, settings)]
            scales = {"guidance": text, "image_guidance": image}
            choices.append({**row("", found), **scales, **same})
        tested = [*outcomes(denoiser, judge, data.items, usual)]
    parts: dict[str, list[Outcome]] = {part: [] for part in PARTS}
    for number, (_, one) in enumerate(tested):
        parts[[*PARTS][number % len(PARTS)]].append(one)
    parts[ALL] = [one for _, one in tested]
    parts[HELD_OUT] = [one for target, one in tested if target.held_out]
    common = {
        "guidance": usual.guidance,
        "image_guidance": usual.image_guidance,
        "evaluations": 3 * usual.steps,
        "model": model,
        "revision": denoiser.card.revision,
        "judge": JUDGE,
        "judge_accuracy": judge.accuracy(data.items),
        **same,
    }
    rows = [{**row(name, some), "change": name, **common} for name, some in parts.items() if some]
    return rows, choices


def outcomes(
    denoiser: Any, judge: KindJudge, items: Sequence[Item], settings: InstructSettings
) -> Iterator[tuple[Kind, Outcome]]:
    """What was asked for of each image, and the outcome."""
    import torch

    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.editing.instruct import instruct_all

    asked = [request(item, [*PARTS][n % len(PARTS)]) for n, item in enumerate(items)]
    for start in range(0, len(items), BATCH):
        batch, wanted = items[start : start + BATCH], asked[start : start + BATCH]
        pixels = torch.stack(
            [
                torch.from_numpy(to_pixels(load_image(item.open()), denoiser.image_size))
                for item in batch
            ]
        )
        results = instruct_all(denoiser, pixels, [words for _, words in wanted], settings)
        for item, (target, _), x, result in zip(batch, wanted, pixels, results, strict=True):
            yield target, outcome_of(judge, item, target, x, result)


def request(item: Item, part: str) -> tuple[Kind, str]:
    """What an image is to show, and the instruction; both are chosen by the image's id."""
    kind = kind_of(item)
    target = swapped(kind, part, item.image_id)
    edit = attribute_edit(kind, part, getattr(target, part))
    return target, keyed_instruction(edit, DATASET, item.image_id)


def page(
    rows: Sequence[dict[str, Any]], choices: Sequence[dict[str, Any]], output: Path
) -> Iterator[str]:
    """Lines of INSTRUCTIONS.md."""
    from benchmarks.core.tables import environment_of, markdown
    from diffcls.editing.change_region import GREY_VALUES

    by_name = {row["change"]: row for row in rows}
    whole = by_name[ALL]
    yield "# Edits by an instruction"
    yield ""
    yield (
        f"Written by `{COMMAND}` from `instructions.csv` and `instructions_validation.csv`; "
        f"{environment_of(output, NAME)['environment']}. {whole['n']} test images of {DATASET}, "
        f"edited by {whole['model']} with the defaults of `diffcls edit`: guidance "
        f"{whole['guidance']:g} by the instruction and {whole['image_guidance']:g} by the image. "
        "Images and exchanged attributes are those of [EDITS.md](EDITS.md); the wording of each "
        f"instruction is chosen by the image. `{whole['judge']}`, which is right on "
        f"{whole['judge_accuracy']:.1%} of the real images, says what an edit shows among all 96 "
        "combinations; intervals are Wilson's. Outside is the share of the pixels that differ by "
        f"more than {GREY_VALUES} grey values from the reconstruction, outside the object before "
        f"and after the edit and {MARGIN_PIXELS} pixels around it. An edit takes "
        f"{whole['evaluations']} evaluations."
    )
    yield ""
    shown = {
        "images": lambda r: f"{r['n']}",
        "shows what was asked for": lambda r: f"{r['rate']:.1%}",
        "95 % interval": lambda r: f"{r['ci_low']:.1%} to {r['ci_high']:.1%}",
        "other attributes kept": lambda r: f"{r['other_attributes_kept']:.1%}",
        "changed outside": lambda r: f"{r['changed_outside']:.1%}",
    }
    yield from markdown(rows, {"change": lambda r: r["change"], **shown})
    yield ""
    verdict = "met" if whole["rate"] >= TARGET else "missed"
    yield (
        f"- {whole['rate']:.1%} of the edits change the named attribute and no other, at least "
        f"{TARGET:.0%}: {verdict}."
    )
    yield ""
    yield f"The scales on {choices[0]['n']} validation images of other scenes:"
    yield ""
    scales = {
        "by the instruction": lambda r: f"{r['guidance']:g}",
        "by the image": lambda r: f"{r['image_guidance']:g}",
    }
    yield from markdown(choices, {**scales, **shown})
    yield ""
