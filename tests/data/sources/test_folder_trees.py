"""Random image folders: no traceback, and no accepted nonsense.

Each tree is written to disk, read by `load_dataset`, and compared with a reading of the same tree
as a list of paths, which shares nothing with the package.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path, PurePosixPath

from helpers.image_folders import encoded
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError, UsageError

SPLITS = "train training valid val validation dev test testing eval evaluation".split()
PICTURES = {".png", ".JPG", ".jfif", ".pgm", ".pnm", ".jpe"}

classes = st.sampled_from(["cat", "dog", "red_panda", "red panda", "Cat", "1", "2", "10", "owl "])
splits = st.sampled_from(SPLITS).flatmap(
    lambda name: st.sampled_from([name, name.title(), name.upper(), f"{name}_set"])
)
junk = st.sampled_from([".git", "__MACOSX", ".ipynb_checkpoints", "annotations", "images"])
folder = st.one_of(classes, classes, splits, junk)
suffix = st.sampled_from([*sorted(PICTURES), ".txt", ".xml", ".csv", ""])
file = st.builds("{}{}".format, st.sampled_from(["1", "2", "._3", "photo"]), suffix)
paths = st.builds(
    lambda folders, name: "/".join([*folders, name]), st.lists(folder, max_size=3), file
)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, bool]:
    """Path -> whether its content is an image: classes, in splits or not, and random files."""
    tops = draw(st.one_of(st.just([""]), st.lists(splits, min_size=1, max_size=3, unique=True)))
    names = draw(st.lists(classes, min_size=1, max_size=3, unique=True))
    inner = draw(st.sampled_from(["", "", "images/", "more/.cache/", "test/"]))
    chosen = {
        f"{top}/{name}/{inner}{draw(file)}".lstrip("/"): True for top in tops for name in names
    }
    return chosen | draw(st.dictionaries(paths, st.booleans(), max_size=6))


asked = st.sampled_from(["test", "test", "validation", "train", "val", "dev", "eval", "other"])


def written(root: Path, tree: dict[str, bool]) -> dict[str, bool]:
    """Write the tree; the paths that a file system that ignores case, or a file, did not take."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    kept = {}
    for path, is_image in tree.items():
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(encoded() if is_image else b"text")
            kept[path] = is_image
        except OSError:  # a folder has the name of a file
            continue
    return kept


def is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def pictures(tree: dict[str, bool]) -> list[PurePosixPath]:
    """The images of a tree: by suffix, or by content without one; not the hidden ones."""
    found = []
    for text, is_image in tree.items():
        path = PurePosixPath(text)
        if not is_hidden(path) and (path.suffix in PICTURES or (not path.suffix and is_image)):
            found.append(path)
    return sorted(found)


def bare(name: str) -> str:
    return name.lower().removesuffix("_set")


def split_tops(tree: dict[str, bool]) -> list[str]:
    tops = {PurePosixPath(path).parts[0] for path in tree if "/" in path}
    return [top for top in tops if bare(top) in SPLITS]


def check_accepted(data: Dataset, tree: dict[str, bool], whole: bool) -> None:
    """An accepted data set is one folder per class and holds no split as a class.

    It is complete if it is `whole`, and not the part held out for training or validation.
    """
    bases = [""] + [f"{top}/" for top in split_tops(tree)]
    ids = [item.image_id for item in data.items]
    texts = {str(path) for path in pictures(tree)}
    (base, *_) = [b for b in bases if {b + i for i in ids} <= texts] or [None]
    assert base is not None, "an image that is none, or hidden"
    inside = [p[len(base) :] for p in map(str, pictures(tree)) if p.startswith(base)]
    expected = [path for path in inside if "/" in path]
    assert sorted(ids) == sorted(expected) or (not whole and set(ids) < set(expected))
    for item in data.items:
        assert data.class_names[item.label] == item.image_id.split("/")[0]
    assert {path.split("/")[0] for path in expected} == set(data.class_names)
    names = list(data.class_names)
    assert names == (sorted(names, key=int) if all(map(str.isdigit, names)) else sorted(names))
    words = {" ".join(name.replace("_", " ").split()).lower() for name in names}
    assert len(words) == len(names) >= 2
    assert sum(bare(name) in SPLITS for name in names) < 2
    below: dict[str, set[str]] = defaultdict(set)
    for image in ids:
        parts = image.split("/")
        below[parts[0]] |= {parts[1]} if len(parts) > 2 else {""}
    held = [names - {""} for names in below.values()]
    for k, one in enumerate(held):
        assert not any(one == other and len(one) > 1 for other in held[:k])


@examples(tree=trees(), split=asked)
def test_random_folder_is_read_as_a_list_of_its_paths_or_refused(
    tmp_path: Path, tree: dict[str, bool], split: str
) -> None:
    root = tmp_path / "set"
    tree = written(root, tree)
    try:
        data = load_dataset(f"folder:{root}", split)
    except (DataError, UsageError) as error:
        assert len(str(error)) < 2000
        return
    check_accepted(data, tree, whole=split in ("test", "eval", "other"))
    assert all(count > 0 for count in data.passed_over.values())


plain = st.dictionaries(
    st.sampled_from(["cat", "dog", "red_panda", "owl", "7", "12"]),
    st.lists(file, min_size=1, max_size=4, unique=True),
    min_size=2,
    max_size=5,
)


@examples(layout=plain, split=st.sampled_from(["", *SPLITS]), beside=st.lists(junk, unique=True))
def test_plain_folder_of_classes_is_never_refused(
    tmp_path: Path, layout: dict[str, list[str]], split: str, beside: list[str]
) -> None:
    root = tmp_path / "set"
    base = f"{split}/" if split else ""
    tree = {f"{base}{name}/{file}": True for name, files in layout.items() for file in files}
    tree |= {f"{base}{name}/notes.txt": False for name in beside}
    tree = written(root, tree)
    expected = [str(path)[len(base) :] for path in pictures(tree)]
    names = {path.split("/")[0] for path in expected}
    if len(names) < 2:
        return
    data = load_dataset(f"folder:{root}", split or "test")
    assert sorted(item.image_id for item in data.items) == sorted(expected)
    assert set(data.class_names) == names
    n_hidden = sum(is_hidden(PurePosixPath(path)) for path in tree)
    hidden_folders = {path.split("/")[-2] for path in tree if is_hidden(PurePosixPath(path).parent)}
    counted = data.passed_over.get("hidden or system files and folders", 0)
    assert counted == n_hidden - sum(is_hidden(PurePosixPath(path).parent) for path in tree) + len(
        hidden_folders
    )
