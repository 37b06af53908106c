"""Words: standard terms are used, and phrases that need a second reading are not.

Each row of `PHRASES` is a regular expression and the words to write in its place. Texts are
searched with line breaks and comment marks taken out, so that a phrase is found across lines.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("diffcls", "benchmarks", "tools", "docs", "tests", ".github", "results/reference")
SUFFIXES = {".py", ".md", ".yml", ".yaml", ".cff"}
PACKAGE = sorted((ROOT / "diffcls").rglob("*.py"))

PHRASES = {
    # calques and archaisms
    r"\b(?:go|goes|going|went) on (?:from|where)\b": "resume, or fine-tune from",
    r"\b(?:is|are|was|were|be|been) told\b": "receives, is conditioned on; warns of",
    r"\banew\b": "again",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bdear\b": "costly",
    r"\bkin\b": "name the things",
    r"\bwhoever\b": "name the thing",
    r"\bin any company\b|\bcompany changes\b": "whatever other images are in the batch",
    r"\bseen to\b": "processed, handled; observed to",
    r"\b(?:evaluations|seconds|passes|nats|draws|calls|levels|s|ms) an image\b": "per image",
    r"\bbits a dimension\b": "bits per dimension",
    r"\b(?:an?|one|per) \.npz .{0,30}\ban image\b": "per image",
    r"\bdrawn images?\b|\bimages? (?:that .{0,30})?(?:drawn|drew)\b": "generated images",
    r"\bdraws? (?:an? |the |its |their |some |a few )?images?\b": "generate, or render, images",
    # things compute, people decide
    r"\bguess(?:es)? the noise\b": "predict the noise",
    r"\b(?:sees|saw|seen by|see) (?:the )?images\b": "feature extractor",
    r"\bnetwork that sees\b": "feature extractor",
    r"\bis to lead\b|\bthat leads (?:it|one|that)\b": "classifier guidance",
    r"\bleads? (?:its |that one's )?samples\b|\bled to (?:a|one|the) class\b": "guidance",
    r"\bleads itself\b|\bis led by nothing\b": "--guide …",
    r"\btold nothing\b": "unconditional",
    r"\bleads the second\b": "classifier guidance of the second by the last",
    r"\blearned variance is led by\b": "VLB term for the learned variance",
    r"\blet(?:s)? (?:the draws|them) vote\b": "draws are aggregated by mean, rank or majority vote",
    r"\bimages want of\b": "dynamic batching of requests from many images",
    r"\basks for looks\b": "requests cheap probes",
    r"\bhas all his answers\b": "an image whose requests are answered",
    r"\bread one batch ahead of their scoring\b": "prefetch",
    # relative clauses and riddles in place of nouns
    r"\bhow honest\b": "calibration",
    r"\bagainst its rivals\b|\bthe rivals\b": "baselines",
    r"\bit has seen\b": "training data",
    r"\bnarrowed to two classes wastes nothing\b": "batches stay full (continuous batching)",
    r"\bless than 0: it wins\b": "negative: better",
    r"\bis trained to make small\b": "training loss",
    r"\bmethods share that look\b": "single-pass classifiers",
    r"\bvalidation no longer gains\b": "early stopping",
    r"\banything can be said of\b|\bwhere nobody says\b": "minimum, default number of images",
    r"\btrain one model together, a device each\b": "data-parallel training",
    r"\bfinished model already\b": "output folder already contains a trained model",
    r"\bit makes it again\b": "delete the file and rerun the command",
    r"\bone folder a drawing\b": "output folder of one generation run",
    r"\bthe way between two images is\b": "--guide cannot be combined with --interpolate",
}
TERMS = (
    "feature extractor",
    "early stopping",
    "best-arm identification",
    "classifier guidance",
    "data parallel",
    "gradient accumulation",
    "continuous batching",
    "prefetch",
    "ablation",
    "successive halving",
    "linear probe",
    "temperature scaling",
)
CLAUSES = ("What", "How", "Which", "Where")
"""A module's docstring begins with its noun; a few of these are allowed."""


def sources() -> list[Path]:
    inside = [p for f in FOLDERS for p in (ROOT / f).rglob("*") if p.suffix in SUFFIXES]
    above = [p for p in ROOT.iterdir() if p.suffix in SUFFIXES or p.name == "pyproject.toml"]
    kept = [p for p in [*above, *inside, ROOT / "results" / "README.md"] if p.is_file()]
    return sorted(p for p in kept if p != Path(__file__))


@cache
def text_of(path: Path) -> str:
    """A file's text in one line, without the marks of comments and quotations."""
    lines = path.read_text(encoding="utf-8").splitlines()
    plain = " ".join(re.sub(r"^\s*(?:#+|>)\s", "", line) for line in lines)
    joined = re.sub(r"\"\s+f?\"", "", plain)  # a message's text over several lines
    return re.sub(r"\s+", " ", joined)


def occurrences(phrase: str, text: str) -> list[str]:
    matches = re.finditer(phrase, text, re.IGNORECASE)
    return [text[max(0, m.start() - 30) : m.end() + 30] for m in matches]


def test_a_phrase_is_found_across_lines_and_in_comments(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('# a run goes\n# on from here\nraise E("the model leads "\n    "itself")\n')
    text = text_of(file)
    assert occurrences(r"\bgoes on from\b", text)
    assert occurrences(r"\bleads itself\b", text)


def test_sources_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in sources()}
    assert {"README.md", "docs/cli.md", "diffcls/__init__.py", "benchmarks/run.py"} <= names


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrase_is_written_plainly(phrase: str) -> None:
    places = [
        f"{path.relative_to(ROOT).as_posix()}: …{place}…"
        for path in sources()
        for place in occurrences(phrase, text_of(path))
    ]
    assert not places, f"write: {PHRASES[phrase]}\n" + "\n".join(places)


@pytest.mark.parametrize("term", TERMS)
def test_term_of_the_field_is_used(term: str) -> None:
    files = [*PACKAGE, *(ROOT / "docs").glob("*.md")]
    pattern = re.escape(term).replace(r"\ ", "[ -]")
    assert any(re.search(pattern, text_of(path), re.IGNORECASE) for path in files)


def test_module_docstrings_begin_with_a_noun() -> None:
    docs = {p: ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))) for p in PACKAGE}
    clauses = [
        f"{path.relative_to(ROOT).as_posix()}: {doc.splitlines()[0]}"
        for path, doc in docs.items()
        if doc and doc.split()[0].rstrip(",") in CLAUSES
    ]
    assert len(clauses) < 5, "\n".join(clauses)
