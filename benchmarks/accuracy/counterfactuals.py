"""Counterfactuals benchmark: do they convince a classifier that has not asked for them?

Test images of one object each are edited until the diffusion classifier says another value of one
attribute: the colour, the shape or the size. An independent classifier, a CLIP that shares no
weights with the diffusion model, says what the counterfactual shows among all 96 combinations; the
pixels outside the object, whose mask is known, are compared with those of the original.

Writes ``counterfactuals.csv`` and ``COUNTERFACTUALS.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.accuracy.edited_scenes import (
    DATASET,
    IMAGES,
    JUDGE,
    MARGIN_PIXELS,
    PARTS,
    KindJudge,
    kind_of,
    outside_object,
    swapped,
)
from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import (
    SIX_DIGITS,
    environment_of,
    markdown,
    read_rows,
    record_environment,
    write_rows,
)
from diffcls.data.scenes.grammar import Group
from diffcls.metrics.statistics import wilson_interval
from diffcls.support.environment import commit
from diffcls.support.files import write_text

if TYPE_CHECKING:
    from diffcls.data.dataset import Item

NAME, COMMAND = "counterfactuals", "python -m benchmarks.run counterfactuals"
MODEL, STEPS = "scenes", 25
CONVINCED, OUTSIDE = 0.7, 0.15
"""Least share that convinces the judge, and largest share of pixels changed outside the object."""
COLUMNS = (
    *("attribute", "n", "convincing", "judged", "ci_low", "ci_high", "changed_outside"),
    *("both", "strength", "steps", "model", "revision", "judge", "judge_accuracy"),
    *("command", "commit"),
)


@dataclass(frozen=True)
class Outcome:
    """One counterfactual.

    Args:
        is_convincing: whether the classifier that asks is convinced.
        is_judged: whether the judge sees the target.
        outside: share of the pixels outside the object that changed.
        strength: of the edit.
    """

    is_convincing: bool
    is_judged: bool
    outside: float
    strength: float


def _main(arguments: list[str]) -> int:
    p = parser(NAME, __doc__)
    add_report_only(p)
    p.add_argument("--limit", type=int, default=IMAGES, metavar="N", help=f"images ({IMAGES})")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    table = output / "counterfactuals.csv"
    if not flags.report_only:
        write_rows(table, measure(flags.limit), COLUMNS, SIX_DIGITS)
        record_environment(output, NAME)
    write_text(output / "COUNTERFACTUALS.md", "\n".join(page(read_rows(table), output)))
    return 0


main = entry_point(_main)


def measure(images: int) -> list[dict[str, Any]]:
    """The rows: each attribute, and all of them.

    Args:
        images: number of test images, a stratified sample.
    """
    import diffcls
    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(1)
    data, _ = choose(load_dataset(DATASET, "test", None), images)
    classifier = diffcls.ZeroShotImageClassifier.from_pretrained(MODEL, device="cpu")
    judge = KindJudge(data.class_names)
    outcomes: dict[str, list[Outcome]] = {part: [] for part in PARTS}
    with denormals_flushed():
        for number, item in enumerate(data.items):
            part = list(PARTS)[number % len(PARTS)]
            outcomes[part].append(outcome_of(classifier, judge, item, part))
    common = {
        "steps": STEPS,
        "model": MODEL,
        "revision": classifier.denoiser.card.revision,
        "judge": JUDGE,
        "judge_accuracy": judge.accuracy(data.items),
        "command": COMMAND,
        "commit": commit(),
    }
    outcomes["all"] = [one for part in PARTS for one in outcomes[part]]
    return [{**row(name, some), **common} for name, some in outcomes.items()]


def outcome_of(classifier: Any, judge: KindJudge, item: Item, part: str) -> Outcome:
    """The outcome of one image: from its combination to another value of an attribute.

    The candidates are all values of that attribute, the others as they are.
    """
    from diffcls.data.transforms import to_image
    from diffcls.editing.change_region import changed_pixels

    kind = kind_of(item)
    target = swapped(kind, part, item.image_id)
    labels = [str(Group(type(kind)(**{**vars(kind), part: value}))) for value in PARTS[part]]
    found = classifier.counterfactual(item.open(), str(Group(target)), labels, "{}", steps=STEPS)
    changed = changed_pixels(found.image, found.steps[0].image).numpy()
    outside = outside_object(item, found.image)
    return Outcome(
        found.is_convincing,
        judge(to_image(found.image)) == target,
        float(changed[outside].mean()),
        found.strength,
    )


def row(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of one attribute."""
    n, judged = len(outcomes), sum(one.is_judged for one in outcomes)
    low, high = wilson_interval(judged, n)
    return {
        "attribute": name,
        "n": n,
        "convincing": float(np.mean([one.is_convincing for one in outcomes])),
        "judged": judged / n,
        "ci_low": low,
        "ci_high": high,
        "changed_outside": float(np.mean([one.outside for one in outcomes])),
        "both": float(np.mean([one.is_judged and one.outside <= OUTSIDE for one in outcomes])),
        "strength": float(np.median([one.strength for one in outcomes])),
    }


def page(rows: Sequence[dict[str, Any]], output: Path) -> Iterator[str]:
    """Lines of COUNTERFACTUALS.md."""
    from diffcls.editing.change_region import GREY_VALUES

    last = rows[-1]
    yield "# Counterfactuals"
    yield ""
    yield (
        f"Written by `{COMMAND}` from `counterfactuals.csv`; "
        f"{environment_of(output, NAME)['environment']}. {last['n']} test images of {DATASET}, "
        f"edited until the classifier {last['model']} says another value of one attribute, among "
        f"all its values; {last['steps']} steps. "
        f"`{last['judge']}`, which is right on {last['judge_accuracy']:.1%} of the real images, "
        "says what a counterfactual shows among all 96 combinations; intervals are Wilson's. "
        f"Outside is the share of the pixels that differ by more than {GREY_VALUES} grey values "
        "from the reconstruction of the original, outside the object before and after and "
        f"{MARGIN_PIXELS} pixels around it."
    )
    yield ""
    yield from markdown(
        rows,
        {
            "attribute": lambda r: r["attribute"],
            "images": lambda r: f"{r['n']}",
            "convinces the classifier": lambda r: f"{r['convincing']:.1%}",
            "convinces the judge": lambda r: f"{r['judged']:.1%}",
            "95 % interval": lambda r: f"{r['ci_low']:.1%} to {r['ci_high']:.1%}",
            "changed outside": lambda r: f"{r['changed_outside']:.1%}",
            f"judge convinced, at most {OUTSIDE:.0%} outside": lambda r: f"{r['both']:.1%}",
            "median strength": lambda r: f"{r['strength']:g}",
        },
    )
    yield ""
    verdict = "met" if last["both"] >= CONVINCED else "missed"
    yield (
        f"- {last['both']:.1%} convince the judge while at most {OUTSIDE:.0%} of the pixels "
        f"outside the object change, at least {CONVINCED:.0%}: {verdict}."
    )
    yield ""
