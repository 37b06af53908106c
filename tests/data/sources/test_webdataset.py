"""``webdataset:PATTERN``: shards, splits, ids and class names, against independent readers."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers.image_folders import encoded
from helpers.tar_shards import CLASSES, files_of, grays, image, truth, write_shards, write_tar

from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.data.subsets import choose
from diffcls.scoring.prefetch import Prefetcher
from diffcls.support.errors import DataError, UsageError

SHARDS = {"0.tar": [7, 3, 5], "1.tar": [9, 1], "10.tar": [8, 2, 4]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "shards", SHARDS)


def load(name: object, split: str = "test", **options: str) -> Dataset:
    return load_dataset(f"webdataset:{name}", split, None, **options)  # type: ignore[arg-type]


# ---- independent readers and writers -------------------------------------------------------------


def test_shards_are_read_as_by_the_library_webdataset(tmp_path: Path) -> None:
    reason = "the library is an independent reader and writer"
    wds = pytest.importorskip("webdataset", reason=reason)
    pattern = str(tmp_path / "w-%05d.tar")
    with wds.ShardWriter(pattern, maxcount=3, verbose=0) as sink:
        for gray in (7, 3, 5, 9, 1, 8, 2):
            sink.write({"__key__": f"n/s{gray}", "png": image(gray), "cls": gray % 3})
    (tmp_path / "classnames.txt").write_text("\n".join(CLASSES))
    dataset = load(tmp_path / "w-{00000..00002}.tar")
    reference = wds.WebDataset(str(tmp_path / "w-{00000..00002}.tar"), shardshuffle=False)
    pairs = [(Path(s["__url__"]).stem, s["__key__"], int(s["cls"]), s["png"]) for s in reference]
    assert [item.image_id for item in dataset.items] == [f"{url}/{key}" for url, key, *_ in pairs]
    assert [item.label for item in dataset.items] == [label for _, _, label, _ in pairs]
    assert [image(gray) for gray in grays(dataset)] == [content for *_, content in pairs]


def test_shards_are_read_as_by_the_library_datasets(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="not in the light environment")
    files = [str(folder / name) for name in SHARDS]
    reference = datasets.load_dataset(
        "webdataset", data_files={"test": files}, split="test", cache_dir=str(tmp_path / "cache")
    )
    dataset = load(folder)
    assert [item.label for item in dataset.items] == reference["cls"][:]
    assert [i.image_id.partition("/")[2] for i in dataset.items] == reference["__key__"][:]
    assert grays(dataset) == [one.getpixel((0, 0)) for one in reference["png"]]


def test_images_are_those_of_the_same_folder(folder: Path, tmp_path: Path) -> None:
    for gray in (gray for shard in SHARDS.values() for gray in shard):
        path = tmp_path / "photos" / CLASSES[gray % 3] / f"{gray:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(gray))
    plain, sharded = load_dataset(f"folder:{tmp_path / 'photos'}"), load(folder)
    assert sharded.class_names == plain.class_names
    assert sorted((label, gray) for _, label, gray in truth(sharded)) == sorted(
        (label, gray) for _, label, gray in truth(plain)
    )


# ---- names, order, identity ----------------------------------------------------------------------


def test_ids_are_shard_and_key_in_natural_order(folder: Path) -> None:
    dataset = load(folder)
    assert (dataset.name, dataset.split) == ("webdataset:shards", "test")
    first = [("0/s007", 1, 7), ("0/s003", 0, 3), ("0/s005", 2, 5), ("1/s009", 0, 9)]
    assert truth(dataset)[:4] == first
    assert [item.image_id for item in dataset.items[5:]] == ["10/s008", "10/s002", "10/s004"]
    assert dataset.class_names == CLASSES


@pytest.mark.parametrize("pattern", ["{10,1,0}.tar", "*.tar", "?{,0}.tar", "{0..1}*.tar", ""])
def test_data_set_depends_neither_on_the_pattern_nor_on_its_place(
    folder: Path, tmp_path: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "other" / "place" / "shards"
    shutil.copytree(folder, elsewhere)
    monkeypatch.chdir(elsewhere.parent)
    first, second = load(folder), load(f"shards/{pattern}")
    assert (first.name, first.revision, truth(first)) == (
        second.name,
        second.revision,
        truth(second),
    )
    for limit in (1, 3, 5):
        parts = [choose(one, limit=limit) for one in (first, second)]
        assert parts[0][1] == parts[1][1]
        assert truth(parts[0][0]) == truth(parts[1][0])


def test_shards_in_several_folders_have_the_folder_in_their_names(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", {"a/0.tar": [1, 2], "b/0.tar": [3]})
    dataset = load(tmp_path / "s" / "{a,b}" / "0.tar")
    assert [item.image_id for item in dataset.items] == ["a/0/s001", "a/0/s002", "b/0/s003"]
    assert load(tmp_path / "s" / "**" / "*.tar").revision == dataset.revision


def test_names_of_members_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["/etc/x", "../../x", "a/../b"]
    files = [
        (f"{key}.{kind}", c) for key in names for kind, c in (("png", image(3)), ("cls", b"0"))
    ]
    write_tar(tmp_path / "s" / "0.tar", files)
    (tmp_path / "s" / "classnames.txt").write_text("a\nb\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    dataset = load("s")
    assert truth(dataset) == [(f"0/{name}", 0, 3) for name in names]
    assert sorted(tmp_path.rglob("*")) == before  # nothing is extracted


# ---- class names ---------------------------------------------------------------------------------


def test_numbers_without_names_are_refused_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    (folder / "classnames.txt").unlink()
    with pytest.raises(DataError, match=r"labels in \.cls are numbers.*classnames.txt beside"):
        load(folder)
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\nfly\nmoth\n")
    assert load(folder, classnames=str(names)).class_names == ("ant", "bee", "fly", "moth")
    table = tmp_path / "names.csv"
    table.write_text("classidx,classname\n2,fly\n0,ant\n1,bee\n")
    dataset = load(folder, classnames=str(table))
    assert dataset.class_names == ("ant", "bee", "fly")
    assert [item.label for item in dataset.items] == [1, 0, 2, 0, 1, 2, 2, 1]
    names.write_text("ant\nbee\n")
    with pytest.raises(DataError, match=r"label of 0/s005 out of range: 2; allowed: 0 to 1"):
        load(folder, classnames=str(names))


def test_names_as_labels_are_sorted_as_those_of_folders(tmp_path: Path) -> None:
    labels = {"a": "owl", "b": "10", "c": "cat", "d": "owl"}
    files = [(f"{k}.{e}", c) for k, n in labels.items() for e, c in _named(n)]
    write_tar(tmp_path / "0.tar", files)
    dataset = load(tmp_path)
    assert dataset.class_names == ("10", "cat", "owl")
    assert [item.label for item in dataset.items] == [2, 0, 1, 2]


def _named(name: str, kind: str = "txt") -> list[tuple[str, bytes]]:
    return [("png", image(1)), (kind, name.encode())]


def test_numbers_and_names_are_not_mixed(tmp_path: Path) -> None:
    files = [(f"{k}.{e}", c) for k, n in (("a", "owl"), ("b", "3")) for e, c in _named(n, "cls")]
    write_tar(tmp_path / "0.tar", files)
    with pytest.raises(DataError, match=r"labels in \.cls are numbers and names: \['owl', 3\]"):
        load(tmp_path)


def test_kind_of_label_is_the_same_in_all_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, {"0.tar": [1, 2]})
    write_tar(tmp_path / "1.tar", files_of([3, 4], "txt"))
    with pytest.raises(DataError, match=r"2 of 2 images without a label in \.cls: \['1/s003'"):
        load(tmp_path)


def test_names_of_classes_that_no_image_has_are_classes(folder: Path) -> None:
    (folder / "classnames.txt").write_text("cat\ndog\nowl\nyak\n\n")
    assert load(folder).class_names == ("cat", "dog", "owl", "yak")
    (folder / "classnames.txt").write_text("cat\n\nowl\nyak")
    with pytest.raises(UsageError, match="empty name"):
        load(folder)


# ---- the layout of CLIP_benchmark ----------------------------------------------------------------


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    root = tmp_path / "wds_birds"
    write_shards(root, {"test/0.tar": [1, 2, 3], "test/1.tar": [4, 5], "train/0.tar": [6, 7, 8]})
    (root / "test" / "nshards.txt").write_text("2\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}, a bird.\n")
    return root


def test_folder_of_clip_benchmark_is_read_with_its_split_names_and_template(
    benchmark: Path,
) -> None:
    dataset = load(benchmark)
    assert (dataset.name, dataset.split) == ("webdataset:wds_birds", "test")
    assert truth(dataset)[0] == ("0/s001", 1, 1) and len(dataset) == 5
    assert (dataset.class_names, dataset.templates) == (CLASSES, ("a photo of a {}, a bird.",))
    assert dataset.passed_over == {"archives of other splits": 1}
    assert grays(load(benchmark, "train")) == [6, 7, 8]
    for pattern in ("test", "test/{0..1}.tar", "test/*.tar", "{train,test}/*.tar"):
        other = load(f"{benchmark}/{pattern}")
        assert (other.name, other.revision) == (dataset.name, dataset.revision)
        assert (other.class_names, other.templates) == (CLASSES, dataset.templates)


def test_split_that_the_shards_do_not_have_is_refused(benchmark: Path) -> None:
    with pytest.raises(DataError, match=r"--split: no shards.*'validation'; allowed: test, train"):
        load(benchmark, "validation")
    with pytest.raises(DataError, match=r"'test'; allowed: train; add --split train"):
        load(benchmark / "train" / "0.tar")
    (benchmark / "test").rename(benchmark / "val")
    assert load(benchmark).split == "test"  # as in folder:PATH
    assert load(benchmark, "validation").split == "validation"


@pytest.mark.parametrize("names", [["set-train-0.tar", "set-val-0.tar"], ["train.tar", "val.tar"]])
def test_split_may_stand_in_the_names_of_the_shards(tmp_path: Path, names: list[str]) -> None:
    write_shards(tmp_path, dict(zip(names, ([1, 2, 3], [4, 5, 6]), strict=True)))
    assert grays(load(tmp_path, "train")) == [1, 2, 3]
    assert grays(load(tmp_path / "*.tar", "validation")) == [4, 5, 6]


def test_shards_without_a_split_are_divided_as_a_folder_is(tmp_path: Path) -> None:
    write_shards(tmp_path, {"0.tar": range(30), "1.tar": range(30, 60)})
    whole, rest, part = (load(tmp_path, split) for split in ("test", "train", "validation"))
    ids = [{item.image_id for item in one.items} for one in (whole, rest, part)]
    assert ids[0] == ids[1] | ids[2] and not ids[1] & ids[2]
    assert (len(part), rest.split, part.split) == (6, "train", "validation")


def test_missing_shards_are_an_error(benchmark: Path) -> None:
    with pytest.raises(DataError, match=r"1 shards are missing, 2 are there: \['.*test/2.tar'\]"):
        load(f"{benchmark}/test/{{0..2}}.tar")
    (benchmark / "test" / "1.tar").unlink()
    with pytest.raises(DataError, match=r"shards are missing: '1 of 2 in .*; download them"):
        load(benchmark)
    (benchmark / "test" / "nshards.txt").unlink()
    assert len(load(benchmark)) == 3
    (benchmark / "test" / "0.tar").rename(benchmark / "test" / "x-00001-of-00002.tar")
    with pytest.raises(DataError, match="files of this split are missing"):
        load(benchmark)


def test_missing_shards_of_a_pattern_with_wildcards_are_an_error(tmp_path: Path) -> None:
    write_shards(tmp_path, {f"test-0000{i}-of-00003.tar": [7, i] for i in range(3)})
    assert len(load(f"{tmp_path}/*.tar")) == 6
    (tmp_path / "test-00001-of-00003.tar").unlink()
    with pytest.raises(DataError, match="files of this split are missing"):
        load(f"{tmp_path}/*.tar")
    with pytest.raises(DataError, match="1 shards are missing, 2 are there"):
        load(f"{tmp_path}/test-0000{{0,1,2}}*.tar")
    named = f"{tmp_path}/test-0000{{0,2}}-of-00003.tar"
    assert len(load(named)) == 4  # braces name a part of the set
    for i in (0, 2):
        (tmp_path / f"test-0000{i}-of-00003.tar").rename(tmp_path / f"{i}.tar")
    (tmp_path / "nshards.txt").write_text("3")
    with pytest.raises(DataError, match=r"shards are missing: '2 of 3 in "):
        load(f"{tmp_path}/*.tar")


def test_several_templates_are_left_to_the_command(benchmark: Path) -> None:
    path = benchmark / "zeroshot_classification_templates.txt"
    path.write_text("a photo of a {c}.\na bad photo of a {c}.\n")
    dataset = load(benchmark)
    assert dataset.templates == ()
    assert dataset.passed_over[f"templates in {path.name}"] == 2
    path.write_text("a photo of a bird.\n")
    with pytest.raises(DataError, match=r"no template: 'a photo of a bird\.'"):
        load(benchmark)


# ---- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none", r"--dataset webdataset:PATTERN: no shards: '.*none'; allowed: a folder with \*"),
        ("none/*.tar", "no shards"),
        ("empty", "no shards"),
        ("shards/{0..2}.tar", r"1 shards are missing, 2 are there: \['.*shards/2.tar'\]"),
        ("shards/{5..9}.tar", r"5 shards are missing, 0 are there"),
        ("shards/classnames.txt", "cannot read tar archive"),
    ],
)
def test_pattern_without_shards_is_an_error_of_one_line(
    folder: Path, tmp_path: Path, pattern: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message) as caught:
        load(f"{tmp_path}/{pattern}")
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pattern", ["pipe:touch ran; cat shards/0.tar", "`touch ran`", "$(touch ran)"]
)
def test_pattern_is_never_a_command(
    folder: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(DataError, match="no shards"):
        load(pattern)
    assert not Path("ran").exists()


@pytest.mark.parametrize("pattern", ["x" * 5000, "a\0b", "\udcff/*.tar", "[", "{}", "~nobody/x"])
def test_pattern_that_no_file_can_have_is_an_error_of_one_line(pattern: str) -> None:
    with pytest.raises(DataError, match="no shards"):
        load(pattern)


@pytest.mark.parametrize("name", ["shards", "shards/0.tar", "./shards"])
def test_path_without_prefix_is_recognised(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UsageError, match=f"did you mean 'webdataset:{name}'"):
        load_dataset(name)


def test_broken_image_is_an_error_of_that_image_alone(folder: Path) -> None:
    write_tar(folder / "2.tar", [("x.png", b"no image"), ("x.cls", b"1"), *files_of([6])])
    dataset = load(folder)
    with pytest.raises(DataError, match="cannot read image"):
        dataset.items[5].open()
    reader = Prefetcher(iter(dataset.items), lambda item: np.asarray(item.open()), 20)
    batch = reader.take()
    reader.close()
    assert len(batch.items) == 9 and [one.image_id for one in batch.failed] == ["2/x"]


# ---- memory --------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    content = encoded()
    peaks = []
    for padding in (0, 32_000):  # bytes after the end of a PNG file are ignored
        files = (
            (f"{i}.{kind}", data)
            for i in range(1000)
            for kind, data in (("png", content + bytes(padding)), ("cls", b"0"))
        )
        write_tar(tmp_path / f"{padding}" / "0.tar", files)
        (tmp_path / f"{padding}" / "classnames.txt").write_text("a\nb\n")
        tracemalloc.start()
        dataset = load(tmp_path / f"{padding}")
        for item in dataset.items[::10]:
            item.open()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert os.path.getsize(tmp_path / "32000" / "0.tar") > 32_000_000
    assert peaks[1] - peaks[0] < 500_000
