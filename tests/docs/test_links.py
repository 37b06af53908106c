"""Links and file names in the documents exist; the README stays one page."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

import diffcls

ROOT = Path(__file__).parents[2]


@cache
def tracked() -> frozenset[str]:
    """Files that git tracks or would track; all files where this is no checkout."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = done.stdout.splitlines()
    if done.returncode or not names:
        names = [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*") if p.is_file()]
    return frozenset(name for name in names if (ROOT / name).is_file())


PAGES = sorted(name for name in tracked() if name.endswith(".md"))
PATH = re.compile(
    r"`((?:diffcls|benchmarks|tools|tests|docs|results|\.ci|\.github)/[\w./-]*[\w-])`"
)


def targets(text: str) -> list[str]:
    """Targets of the Markdown links and images of a page that lead to files of the repository."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    links += re.findall(r'(?:src|href|srcset)="([^"]+)"', prose)
    return [link for link in links if not re.match(r"[a-z]+:", link)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def exists(path: Path) -> bool:
    name = path.resolve().relative_to(ROOT).as_posix()
    return name in tracked() or any(one.startswith(f"{name}/") for one in tracked())


def leads_somewhere(page: Path, target: str) -> bool:
    file, _, anchor = target.partition("#")
    there = (page.parent / file) if file else page
    if not exists(there) or not anchor or there.suffix != ".md":
        return exists(there)
    return anchor in anchors(there.read_text(encoding="utf-8"))


def test_links_and_anchors_are_found() -> None:
    text = 'See [a](b.md#c-d) and ![x](y.png), not [z](https://e.org).\n<img src="p.png">\n'
    assert targets(text) == ["b.md#c-d", "y.png", "p.png"]
    assert anchors("# One: a `two`\n") == {"one-a-two"}
    assert not exists(ROOT / "no" / "such.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_files_and_headings(page: str) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    assert not [target for target in targets(text) if not leads_somewhere(path, target)]


@pytest.mark.parametrize("page", [name for name in PAGES if name != "CHANGELOG.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    """The changelog is left out: it names files of earlier versions."""
    named = PATH.findall((ROOT / page).read_text(encoding="utf-8"))
    made_by_runs = {"results/leaderboard.csv", "results/fidelity.csv", "results/report.html"}
    made = re.compile(
        r"results/(?:runs|fits|tables|checkpoints|evidence|reference/published_\w+\.md)"
    )
    missing = [n for n in named if not exists(ROOT / n) and n not in made_by_runs]
    assert not [name for name in missing if not made.match(name)]


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_of_the_documentation_is_in_the_table_of_contents() -> None:
    """The site is built from the lists of that page: see docs/extensions/contents.py."""
    contents = targets((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    pages = {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")}
    assert pages - set(contents) == {"index.md"}


def test_one_command_of_each_kind_is_marked_for_continuous_integration() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for kind in ("run", "test"):
        assert len(re.findall(rf"^<!-- command: {kind} -->\n```bash\n[^`]+\n```$", text, re.M)) == 1


REFERENCE = re.compile(r"`([\w/]+\.py):([\w.]+)`")


@pytest.mark.parametrize(("page", "least"), [("views", 12), ("how-it-works", 18)])
def test_code_that_a_page_names_beside_an_equation_exists(page: str, least: int) -> None:
    """Places stand as `file.py:function`; a linked one is linked to that file."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    places = REFERENCE.findall(text)
    assert len(places) >= least
    for file, name in places:
        path = ROOT / "diffcls" / file
        assert path.is_file(), file
        source = path.read_text(encoding="utf-8")
        for part in name.split("."):
            assert re.search(rf"^\s*(?:(?:def|class) {part}\b|{part}\b.*=)", source, re.M), (
                f"{file}:{name}"
            )
    for file, target in re.findall(r"\[`([\w/]+\.py):[\w.]+`\]\(([^)]+)\)", text):
        assert target == f"../diffcls/{file}"


def test_pictures_of_the_pages_have_texts_and_are_small() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        pictures = re.findall(r"!\[([^\]]*)\]\(([\w/]*images/[^)]+)\)", page.read_text("utf-8"))
        for text, target in pictures:
            assert len(text) > 20, f"{page.name}: {target}"
            assert (page.parent / target).stat().st_size < 200_000, target


def test_the_map_has_every_folder_of_the_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = "\n".join(re.findall(r"^\| (`[\w`, ]+`) \|", text, re.M))
    folders = {p.parent.name for p in (ROOT / "diffcls").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"`(\w+)`", rows))


def test_one_version_stands_in_all_places() -> None:
    version = diffcls.__version__.partition(".dev")[0]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(version)}$", citation, re.M)
    date = re.search(r'^date-released: "([\d-]+)"$', citation, re.M)
    assert date is not None
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {version} ({date.group(1)})\n" in changes


def test_each_page_of_measurements_is_listed_with_its_question() -> None:
    listed = targets((ROOT / "docs" / "results.md").read_text(encoding="utf-8"))
    pages = {name for name in PAGES if name.startswith("results/reference/")}
    assert pages - {Path(target).as_posix().removeprefix("../") for target in listed} == set()
