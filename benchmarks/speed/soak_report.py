"""results/reference/SOAK.md: whether memory, handles and speed are flat; gain of two processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.core.tables import environment_of, markdown
from diffcls.support.files import write_text

PAGE = "SOAK.md"
MEMORY_GROWTH = 0.5
"""Upper limit of the growth of memory, in MiB per 1,000 images."""
HANDLE_GROWTH = 0.1
"""Upper limit of the growth of open handles per 1,000 images."""
SPEED_CHANGE = 0.1
"""Upper limit of the change of speed from the first to the last point, relative to its mean."""
GAINS = {"2 shards": 1.8, "ray, 2 workers": 1.6}
"""Mode -> least speed of the embedded model relative to one process."""
EMBEDDED, SERIAL = "embedded", "serial"
Row = dict[str, Any]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the least-squares line through points; 0 for fewer than two different x.

    slope = Σ (x − x̄)(y − ȳ) / Σ (x − x̄)²
    """
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    if not spread:
        return 0.0
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread


def _slope_of_known(x: Sequence[float], y: Sequence[float | None]) -> float:
    """`slope` of the points that could be read."""
    known = [(a, b) for a, b in zip(x, y, strict=True) if b is not None]
    return slope(*zip(*known, strict=True))


def speeds(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """(images, images per second) between every two neighbouring points, at their middle."""
    middles, rates = [], []
    for a, b in pairwise(rows):
        if b["seconds"] > a["seconds"]:
            middles.append((a["done"] + b["done"]) / 2)
            rates.append((b["done"] - a["done"]) / (b["seconds"] - a["seconds"]))
    return middles, rates


def summary(rows: Sequence[Row]) -> Row:
    """Figures of one run, from its points."""
    first, last = rows[0], rows[-1]
    done = [row["done"] for row in rows]
    thousands = [count / 1000 for count in done]
    middles, rates = speeds(rows)
    mean = (last["done"] - first["done"]) / (last["seconds"] - first["seconds"])
    workers = [row["worker_memory_mib"] for row in rows]
    has_workers = any(value is not None for value in workers)
    return {
        "model": first["model"],
        "mode": first["mode"],
        "images": first["images"],
        "first": first,
        "last": last,
        "memory_growth": slope(thousands, [row["memory_mib"] for row in rows]),
        "worker_growth": _slope_of_known(thousands, workers) if has_workers else None,
        # at the last point the run may have stopped its workers already
        "unread": workers[:-1].count(None) if has_workers else 0,
        "handle_growth": slope(thousands, [row["handles"] for row in rows]),
        "images_per_second": mean,
        "speed_change": slope(middles, rates) * (done[-1] - done[0]) / mean if rates else 0.0,
    }


def write_page(rows: Sequence[Row], output: Path) -> None:
    """Write and print the page.

    Args:
        rows: rows of soak.csv.
        output: folder of the results, with the environment of the benchmark.
    """
    setup = environment_of(output, "soak")
    runs: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        runs.setdefault((row["model"], row["mode"], row["images"]), []).append(row)
    summaries = [summary(points) for points in runs.values()]
    lines = [
        "# Soak: long runs",
        "",
        "Written by `python -m benchmarks.run soak` from `soak.csv`; "
        f"{setup['environment']}; load average {setup['load']} at the end. `embedded`: racing with "
        f"{setup['draws']} draws and the bundled model of the digits on shifted copies of its "
        f"images; `sleeping`: a classifier that sleeps {setup['seconds']:g} s per image. One "
        "thread per process. Memory is resident; of several processes, the largest. "
        "Growth is the slope of the least-squares line through all points, from the first number "
        "of images to the last; the change of speed is that of its line over the whole run, "
        "relative to the mean. A growth below 0 or a higher speed is flat, too.",
        "",
        *markdown(
            summaries,
            {
                "model": lambda s: s["model"],
                "run": lambda s: s["mode"],
                "images": lambda s: f"{s['images']:,}",
                "memory, MiB": lambda s: _both(s, "memory_mib", ",.0f"),
                "growth per 1,000": lambda s: f"{s['memory_growth']:+.3f}",
                "of a worker, MiB": lambda s: _both(s, "worker_memory_mib", ",.0f"),
                "its growth": lambda s: _cell(s["worker_growth"], "+.3f"),
                "handles": lambda s: _both(s, "handles", "d"),
                "their growth": lambda s: f"{s['handle_growth']:+.3f}",
                "images/s": lambda s: f"{s['images_per_second']:,.1f}",
                "change of speed": lambda s: f"{s['speed_change']:+.1%}",
            },
        ),
        "",
        *verdicts(summaries),
        "",
    ]
    text = "\n".join(lines)
    write_text(output / PAGE, text)
    print(text)


def verdicts(summaries: Sequence[Row]) -> Iterator[str]:
    """Each target, with the measured value and whether it is met."""
    for s in summaries:
        name = f"{s['model']}, {s['mode']}"
        growth = max(s["memory_growth"], s["worker_growth"] or 0.0)
        yield _verdict(name, f"{growth:+.3f} MiB per 1,000 images", growth <= MEMORY_GROWTH,
                       f"at most {MEMORY_GROWTH:g}")  # fmt: skip
        if s["unread"]:
            yield _verdict(name, f"{s['unread']} points without the memory of a worker", False,
                           "none")  # fmt: skip
        handles = s["handle_growth"]
        yield _verdict(name, f"{handles:+.3f} handles per 1,000 images", handles <= HANDLE_GROWTH,
                       f"at most {HANDLE_GROWTH:g}")  # fmt: skip
        change = s["speed_change"]
        yield _verdict(name, f"{change:+.1%} of speed", change >= -SPEED_CHANGE,
                       f"at least {-SPEED_CHANGE:.0%}")  # fmt: skip
    for mode, least in GAINS.items():
        ratio = gain(summaries, mode)
        if ratio is not None:
            yield _verdict(mode, f"{ratio:.2f} times the speed of one process", ratio >= least,
                           f"at least {least:g}")  # fmt: skip


def gain(summaries: Sequence[Row], mode: str) -> float | None:
    """Speed of the embedded model in a mode relative to one process, on as many images."""
    rates = {(s["mode"], s["images"]): s["images_per_second"] for s in summaries
             if s["model"] == EMBEDDED}  # fmt: skip
    for (other, images), rate in rates.items():
        if other == mode and (SERIAL, images) in rates:
            return float(rate / rates[SERIAL, images])
    return None


def _verdict(name: str, value: str, is_met: bool, target: str) -> str:
    return f"- {name}: {value}, {target}: {'met' if is_met else 'missed'}."


def _both(run: Mapping[str, Any], column: str, format: str) -> str:
    first, last = run["first"][column], run["last"][column]
    if first is None or last is None:
        return ""
    return f"{first:{format}} to {last:{format}}"


def _cell(value: float | None, format: str) -> str:
    return "" if value is None else f"{value:{format}}"
