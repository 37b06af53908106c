"""Edits benchmark: do word swaps change the named attribute, and nothing else?

Test images of one object each are described by their sentence, of which one word is exchanged: the
colour, the shape or the size. An independent classifier, a CLIP that shares no weights with the
diffusion model, says what the edit shows among all 96 combinations. Null edits (equal prompts) are
compared with the autoencoder alone.

Writes ``edits.csv`` and ``EDITS.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.edited_scenes import (
    DATASET,
    IMAGES,
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
from diffcls.data.scenes.grammar import Group
from diffcls.support.environment import commit
from diffcls.support.files import write_text

NAME, COMMAND = "edits", "python -m benchmarks.run edits"
MODEL = "scenes"
TARGETS = {"null": 1.0, "swap": 0.7}
"""Most decibels that a null edit loses, and least share of successful swaps."""
COLUMNS = (
    *("edit", "n", "rate", "ci_low", "ci_high", "other_attributes_kept", "changed_outside"),
    *("psnr", "psnr_of_autoencoder", "evaluations", "model", "revision", "judge"),
    *("judge_accuracy", "command", "commit"),
)


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
