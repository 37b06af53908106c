"""Plots by matplotlib as inline SVG, in the colours of the page's style sheet."""

from __future__ import annotations

import io
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# stand-ins, which become variables of the style sheet: the page chooses them for light and dark
INK, RULE = "#010101", "#020202"
FIRST, SECOND, THIRD, FOURTH = "#030303", "#040404", "#050505", "#060606"
VARIABLES = {
    INK: "currentColor",
    RULE: "var(--rule)",
    FIRST: "var(--series-1)",
    SECOND: "var(--series-2)",
    THIRD: "var(--series-3)",
    FOURTH: "var(--series-4)",
}
SIZE = (4.2, 2.6)
"""Inches of a plot; the page scales it to the width of its column."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "diffcls",
    "font.size": 10.5,
    "path.simplify_threshold": 0.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


def check_extra() -> None:
    """Refuse a report without the libraries of the extra ``report``, before any work.

    Raises:
        UsageError: where matplotlib or Jinja2 is missing.
    """
    missing = [
        n for n, m in (("matplotlib", "matplotlib"), ("Jinja2", "jinja2")) if not find_spec(m)
    ]
    if missing:
        raise UsageError(
            f"the report needs {' and '.join(missing)}", todo='pip install "diffcls[report]"'
        )


class Plot:
    """A context in which one plot is drawn, on axes with the page's style.

    Args:
        size: width and height in inches.
    """

    def __init__(self, size: tuple[float, float] = SIZE) -> None:
        import matplotlib

        self.size = size
        self._context = matplotlib.rc_context(STYLE)
        self.svg = ""

    def __enter__(self) -> Plot:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self._context.__enter__()
        self.figure: Figure = Figure(figsize=self.size, layout="constrained")
        FigureCanvasSVG(self.figure)
        self.axes: Axes = self.figure.add_subplot()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                self.axes.margins(x=0.02)
                buffer = io.StringIO()
                empty = dict.fromkeys(("Creator", "Date", "Format", "Type"))
                self.figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
                self.svg = compact(buffer.getvalue())
        finally:
            self._context.__exit__(*error)

    def legend(self, columns: int = 2) -> None:
        """The legend above the plot, where it hides no data."""
        self.figure.legend(loc="outside upper left", ncols=columns, fontsize=10, handlelength=1.4)


def compact(svg: str) -> str:
    """An SVG document as an element of a page: short, without ids, in the page's colours and font.

    The ids that matplotlib gives to markers and clip paths are the same in all plots of a page, so
    those that are used get new ones by `with_ids`; all others are removed.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    # the style sheet of the figure, which would hold for the whole page
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r"font(-family)?: ?([\d.]+px )?[^;\"]*(Sans|sans)[^;\"]*", _font, svg)
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| version="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    return (
        re.sub(r"\s*\n\s*", " ", re.sub(r">\s+<", "><", svg)).replace("xlink:href", "href").strip()
    )


def _font(match: re.Match[str]) -> str:
    size = match[2]
    return f"font-size: {size.strip()}" if size else "font-family: inherit"


def with_ids(svg: str, prefix: str) -> str:
    """The same SVG, its ids beginning with `prefix`, which no other one of the page has."""
    names = {name: f"{prefix}-{i}" for i, name in enumerate(re.findall(r' id="([\w.-]+)"', svg))}
    pattern = re.compile(r'(id="|url\(#|href="#)([\w.-]+)')
    return pattern.sub(lambda m: m[1] + names.get(m[2], m[2]), svg)
