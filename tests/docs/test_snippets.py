"""Python blocks of the documents: they run as pasted, and print the output they promise.

A block after the comment ``<!-- illustration -->`` is not run. Comment lines right below a line
with ``print`` are its expected output, where … stands for any text.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(<!-- illustration[^>]*-->\n)?```python\n(.*?)```", re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Page and line, and source of each block that is to run."""
    blocks = []
    for path in sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")]):
        text = path.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start(2)) + 1
            if match.group(1) is None:
                blocks.append((f"{path.relative_to(ROOT).as_posix()}:{line}", match.group(2)))
    return blocks


def expected(source: str) -> str:
    """The output that a block promises: the comments right below lines that print."""
    lines, promised, after_print = source.splitlines(), [], False
    for line in lines:
        if after_print and line.startswith("# "):
            promised.append(line[2:])
        else:
            after_print = "print(" in line
    return "\n".join(promised)


def agrees(printed: str, promised: str) -> bool:
    """Whether a text is the promised one, … standing for any text and spaces for any space."""
    parts = (r"\s+".join(re.escape(w) for w in part.split()) for part in promised.split("…"))
    return re.fullmatch(r"\s*" + r".*?".join(p + r"\s*" for p in parts), printed, re.S) is not None


def test_promised_output_is_compared() -> None:
    source = "x = 1  # one\nprint(x)\n# 1\n\nprint('0.99')\n# 0.9…\n"
    assert expected(source) == "1\n0.9…"
    assert agrees("1\n0.99\n", expected(source))
    assert not agrees("1\n0.89\n", expected(source))


def test_there_are_blocks_to_run() -> None:
    pages = [page for page, _ in blocks()]
    assert any(page.startswith("README.md") for page in pages)
    assert any(page.startswith("docs/") for page in pages)


@pytest.mark.parametrize("source", [s for _, s in blocks()], ids=[page for page, _ in blocks()])
def test_a_block_runs_as_it_is_pasted(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "block", "exec"), {"__name__": "__main__"})
    promised = expected(source)
    if promised:
        assert agrees(printed.getvalue(), promised), printed.getvalue()
