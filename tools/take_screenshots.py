"""Screenshots of report and demo for README and docs, taken in headless Chromium.

``python -m tools.take_screenshots`` runs the README's evaluation, writes its report, starts the
demo, asks it one example, and saves ``PAGE-WIDTH-SCHEME.png`` of the pages. All that they show
follows from seeds, except for dates and times; the fonts are those of this machine.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.core.chromium import SCHEMES, WIDTHS, chromium, visitor
from benchmarks.core.demo_server import served_demo
from benchmarks.core.processes import output_of
from diffcls.cli import Parser, command
from diffcls.support.errors import DiffclsError
from diffcls.support.files import make_folder, write_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = "docs/images"
MAX_BYTES = 200_000
COLOURS = (None, 256, 128, 64, 32)
"""Palette sizes, None for all colours; the first with an image within `MAX_BYTES` is used."""
MILLISECONDS_TO_ANSWER = 120_000
EVALUATION = ("-m", "diffcls.evaluate", "--quiet")
"""The run of the report is the first command of the README."""


SHOW_RACE = """() => {
    scrollTo(0, 0);
    const race = document.querySelector(".dc-race");
    if (race.getBoundingClientRect().bottom > innerHeight) race.scrollIntoView();
}"""
"""On a phone the race stands below the inputs."""


@contextmanager
def report() -> Iterator[str]:
    """Address of the report of `EVALUATION`."""
    with tempfile.TemporaryDirectory() as folder:
        output_of([*EVALUATION, "--output-dir", folder])
        output_of(["-m", "diffcls.report", "--output-dir", folder])
        yield (Path(folder) / "report.html").as_uri()


def show_wrong_images(page: Page) -> None:
    """Scroll to the gallery of wrong images."""
    heading = page.get_by_role("heading", name="Wrong images")
    heading.evaluate("heading => heading.scrollIntoView({behavior: 'instant'})")


def ask_example(page: Page) -> None:
    """Let the demo answer its first example, to the last panel."""
    page.locator(".dc-example").first.click()
    page.wait_for_selector(".dc-clip .dc-lanes, .dc-clip .dc-error", timeout=MILLISECONDS_TO_ANSWER)
    page.evaluate(SHOW_RACE)


PAGES: dict[str, tuple[Callable[[], object], Callable[[Page], None] | None]] = {
    "report": (report, None),
    "report-images": (report, show_wrong_images),
    "demo": (served_demo, ask_example),
}
"""Name of a page -> context manager of its address, and what is done in it before the picture."""


def compress(png: bytes, limit: int = MAX_BYTES) -> bytes:
    """The same picture within `limit` bytes, with a palette if it must.

    Raises:
        DiffclsError: if the smallest palette does not suffice.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in COLOURS:
        file = io.BytesIO()
        reduced = image
        if colours is not None:
            reduced = image.quantize(colours, dither=Image.Dither.NONE)
        reduced.save(file, format="PNG", optimize=True)
        if file.tell() <= limit:
            return file.getvalue()
    raise DiffclsError(
        "a screenshot is too large", given=f"{file.tell():,} bytes", allowed=f"at most {limit:,}"
    )


def take(name: str, widths: Sequence[int], schemes: Sequence[str], output: Path) -> None:
    """Save the screenshots of one page.

    Args:
        name: a key of `PAGES`.
        widths: widths of the viewport in CSS pixels.
        schemes: colour schemes.
        output: folder of the files.
    """
    source, prepare = PAGES[name]
    with source() as address, chromium() as browser:  # type: ignore[attr-defined]
        for width in widths:
            for scheme in schemes:
                page = visitor(browser, width, scheme).new_page()
                page.goto(address)
                if prepare is not None:
                    prepare(page)
                png = page.screenshot(animations="disabled", caret="hide")
                path = output / f"{name}-{width}-{scheme}.png"
                write_bytes(path, compress(png))
                page.context.close()
                print(f"{path}: {path.stat().st_size:,} bytes")


def _main(arguments: list[str]) -> int:
    p = Parser(prog="tools.take_screenshots", description=__doc__)
    add = p.add_argument
    add("pages", nargs="*", metavar="PAGE", help=f"which of {', '.join(PAGES)} (all)")
    add("--widths", nargs="+", type=int, default=list(WIDTHS), choices=WIDTHS, metavar="PX")
    add("--schemes", nargs="+", default=list(SCHEMES), choices=SCHEMES)
    add("--output-dir", default=IMAGES, metavar="DIR", help=f"of the pictures ({IMAGES})")
    flags = p.parse_args(arguments)
    unknown = [name for name in flags.pages if name not in PAGES]
    if unknown:
        p.error(f"no such page: {unknown[0]}; allowed: {', '.join(PAGES)}")
    make_folder(Path(flags.output_dir))
    for name in flags.pages or PAGES:
        take(name, flags.widths, flags.schemes, Path(flags.output_dir))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Take the screenshots; returns the exit status."""
    return command(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
