"""Side-by-side benchmark of diffcls and the published script: seconds per image, in one run.

Writes ``published_speed.csv`` and ``PUBLISHED_SPEED.md``. Both run in one process, on one core and
one thread, and take turns: one image of the published script, then some of each search of diffcls,
in an order that is reversed from turn to turn. Rows of a data set that are finished are kept if the
benchmark is interrupted; the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.accuracy.published_checkout import Checkout
from benchmarks.core.flags import (
    add_data_root,
    add_datasets,
    add_report_only,
    entry_point,
    parser,
    selected,
)
from benchmarks.core.tables import SIX_DIGITS, read_rows, record_environment, write_rows
from benchmarks.speed.published_rows import Comparison, row_of
from benchmarks.speed.published_sides import (
    PUBLISHED_BATCH,
    OurSide,
    PublishedSide,
    one_core,
    take_turns,
)
from benchmarks.speed.published_speed_report import COLUMNS, EQUAL_WORK, write_page
from diffcls.support.errors import UsageError

NAME, TABLE, UNFINISHED = "published_speed", "published_speed.csv", "published_speed.part.json"


COMPARISONS = (
    Comparison("digits", EQUAL_WORK, 1),
    Comparison("digits", "racing", 45, 40),
    Comparison("fashion_mnist", EQUAL_WORK, 1),
    Comparison("fashion_mnist", "racing", 45, 40),
    Comparison("cifar10", EQUAL_WORK, 1),
    Comparison("cifar10", "racing", 25, 30),
    Comparison("scenes/attributes", "gradient", 90, 40),
    Comparison("scenes/attributes", "learned", 90, 40),
)
"""All rows of the table; a search that this version does not have is left out."""


def _main(arguments: list[str]) -> int:
    p = parser(NAME, __doc__)
    p.add_argument("--checkout", metavar="DIR", help="checkout of the published repository")
    add_data_root(p)
    add_datasets(p)
    add_report_only(p)
    p.add_argument(
        "--images",
        type=int,
        default=8,
        metavar="N",
        help="images of the published script per data set, at least 2 (8)",
    )
    p.add_argument(
        "--fits",
        default="results",
        metavar="DIR",
        help="output folder of evaluate, whose fits are used again (results)",
    )
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        _measure(flags, output)
    write_page(read_rows(output / TABLE), output)
    return 0


main = entry_point(_main)


def _measure(flags: argparse.Namespace, output: Path) -> None:
    """Measure the chosen data sets, each once, and write the table."""
    from diffcls.support.environment import commit, set_threads, versions

    if flags.checkout is None:
        raise UsageError("--checkout is required", todo="name a checkout of the published script")
    if flags.images < 2:
        raise UsageError("--images out of range", given=flags.images, allowed="2 or more")
    checkout = Checkout(Path(flags.checkout).expanduser().resolve())
    chosen = [c for c in selected(flags, COMPARISONS) if _is_known(c.search)]
    places = {"output_dir": _absolute(flags.fits)}
    if flags.data_root is not None:
        places["data_root"] = _absolute(flags.data_root)
    settings = {
        "images": flags.images,
        "published": commit_of(checkout),
        "diffcls": f"{versions()}, {commit()}",
    }
    set_threads(1)
    unfinished = Unfinished(output / UNFINISHED, settings)
    for dataset, group in groupby(chosen, key=lambda c: c.dataset):
        comparisons = list(group)
        if dataset not in unfinished.rows:
            unfinished.add(dataset, measure(checkout, comparisons, flags.images, places))
    path = output / TABLE
    kept = [] if not path.exists() else read_rows(path)
    kept = [row for row in kept if row["dataset"] not in unfinished.rows]
    order = list(dict.fromkeys(c.dataset for c in COMPARISONS))
    rows = kept + [row for rows in unfinished.rows.values() for row in rows]
    rows.sort(key=lambda row: order.index(row["dataset"]))
    write_rows(path, rows, list(COLUMNS), SIX_DIGITS)
    record_environment(output, NAME, keeps_rows=bool(kept), published=settings["published"])
    unfinished.path.unlink(missing_ok=True)


class Unfinished:
    """Rows of an unfinished benchmark, by data set, in a file beside its table.

    Args:
        path: the file; it is removed when the benchmark is finished.
        settings: rows that were measured with other settings are ignored.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self._settings = path, settings
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        same = stored.get("settings") == settings
        self.rows: dict[str, list[dict[str, Any]]] = stored["rows"] if same else {}

    def add(self, dataset: str, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of a data set."""
        from diffcls.support.files import write_text

        self.rows[dataset] = rows
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"settings": self._settings, "rows": self.rows}, indent=1)
        write_text(self.path, text + "\n")


def measure(
    checkout: Checkout,
    comparisons: Sequence[Comparison],
    images: int,
    places: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The rows of one data set.

    Args:
        checkout: the published repository.
        comparisons: of that data set.
        images: images of the published script; diffcls scores these, and with the faster searches
            further ones.
        places: ``data_root`` and ``output_dir``, absolute, since the script runs in the checkout.
    """
    dataset = comparisons[0].dataset
    most = max(c.images_per_turn for c in comparisons)
    items = list(_plan(dataset, places, limit=images * most).dataset.items)
    if len(items) < images:
        raise UsageError("--images out of range", given=images, allowed=f"at most {len(items)}")
    # the first images of every stream are those of the published script
    paper = _plan(dataset, places, limit=images, search="paper", batch_size=PUBLISHED_BATCH)
    ours = [_our_side(c, paper, items, images, places) for c in comparisons]
    with one_core():
        for side in ours:  # before the script's folder is entered: a search may be fitted here
            side.warm_up(items[-1])
        with checkout.script() as script:
            published = PublishedSide(script, paper.built.method, items[:images])
            published.warm_up(items[-1])
            take_turns([published, *ours], images)
        for side in ours:
            side.close()
    labels = {item.image_id: item.class_index for item in items}
    return [
        {"classes": len(paper.prompts), **row_of(c, published, side, labels)}
        for c, side in zip(comparisons, ours, strict=True)
    ]


def _our_side(
    c: Comparison, paper: Any, items: list[Any], images: int, places: Mapping[str, str]
) -> OurSide:
    equal = c.search == EQUAL_WORK
    plan = paper if equal else _plan(c.dataset, places, limit=len(items), search=c.search)
    if plan.prompts.prompts != paper.prompts.prompts:
        raise UsageError("the searches have different prompts", given=c.dataset)
    per_turn = min(c.images_per_turn, len(items) // images)
    return OurSide(plan.built.method, items[: images * per_turn], per_turn, keep_errors=equal)


def commit_of(checkout: Checkout) -> str:
    """The commit of a checkout, or "unknown"."""
    done = subprocess.run(
        ["git", "-C", str(checkout.root), "rev-parse", "HEAD"],  # noqa: S607  # of the PATH
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()[:12] or "unknown"


def _is_known(search: str) -> bool:
    from diffcls.search import SEARCHES

    return search == EQUAL_WORK or search in SEARCHES


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().resolve())


def _plan(dataset: str, places: Mapping[str, str], **options: Any) -> Any:
    from benchmarks.speed.throughput import plan_of
    from diffcls.data.option_use import root_for

    root = root_for(dataset, places.get("data_root"))
    return plan_of(
        dataset=dataset, data_root=root, output_dir=places["output_dir"], quiet=True, **options
    )
