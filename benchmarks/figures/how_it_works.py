"""Pictures of docs/how-it-works.md, each computed by the functions that the page names.

All random numbers are keyed, so the same weights give the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.core.flags import entry_point, parser
from benchmarks.figures import chain_pictures, curve_pictures
from diffcls.support.errors import unknown_name

PICTURES: Mapping[str, Callable[[], Any]] = {
    "forward-chain": chain_pictures.forward_chain,
    "reverse-chain": chain_pictures.reverse_chain,
    "bound-terms": curve_pictures.bound_terms,
    "guidance": chain_pictures.guidance,
    "latent-space": chain_pictures.latent_space,
    "race": curve_pictures.race,
}
"""File name without suffix -> function that returns the figure."""
COLOURS = 128
"""Of the PNG files, which keeps them small."""


def _main(arguments: list[str]) -> int:
    p = parser("how_it_works", __doc__)
    p.set_defaults(output_dir="docs/images")
    p.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join(PICTURES)} (all)")
    flags = p.parse_args(arguments)
    for name in flags.only or PICTURES:
        if name not in PICTURES:
            raise unknown_name("picture", name, PICTURES)

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = Path(flags.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name in flags.only or PICTURES:
        with plt.rc_context({"font.size": 11, "axes.titlesize": 11}):
            _save(PICTURES[name](), folder / f"{name}.png")
        print(folder / f"{name}.png")
    return 0


main = entry_point(_main)


def _save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG with a palette, on white: it is shown on dark pages too."""
    import io

    import matplotlib.pyplot as plt
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    with Image.open(buffer) as image:
        palette = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    palette.save(path, optimize=True)
