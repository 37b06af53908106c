"""Data sets of the Hugging Face Hub: a small Hub on this machine, its cache, and no Hub at all."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from diffcls.data import sources
from diffcls.errors import DataError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def encoded(gray: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), gray).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def parquet(
    grays: list[int],
    names: Mapping[str, list[str]] | None = None,
    image: str = "image",
    **columns: list[Any],
) -> bytes:
    """A file as the Hub has them; `names` are those of the columns of classes."""
    names = names or {"label": ["apple_pie", "beet", "cake"]}
    columns = {"label": [g % 3 for g in grays], **columns}
    features = {n: {"names": names[n], "_type": "ClassLabel"} for n in columns if n in names}
    images = [{"bytes": encoded(g), "path": None} for g in grays]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.table({image: pa.array(images, kind), **columns})
    stored = {"info": {"features": {image: {"_type": "Image"}, **features}}}
    file = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata({"huggingface": json.dumps(stored)}), file)
    return file.getvalue()


def archive(rows: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in rows.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def grays(dataset: Any) -> list[int]:
    return [int(np.asarray(item.open())[0, 0, 0]) for item in dataset.items]


@dataclass
class Hub:
    """What a Hub on this machine serves: id -> path -> content, all of one commit.

    A status of 500 is that of a Hub in trouble, and 0 of one that never answers.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    hangs: threading.Event = field(default_factory=threading.Event)
    status: int = 200

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a request, in the Hub's own terms."""
        self.asked.append(path)
        if self.status == 0:
            self.hangs.wait()
        if self.status != 200:
            return self.status or 500, {}, b""
        api = path.startswith("/api/datasets/")
        place = path.partition("/datasets/")[2].partition("?")[0]
        for name, files in self.repositories.items():
            if place == name or place.startswith(f"{name}/"):
                action, _, rest = place[len(name) + 1 :].partition("/")
                revision, _, file = unquote(rest).partition("/")
                if revision not in ("", "main", "v1", COMMIT):
                    return 404, {"X-Error-Code": "RevisionNotFound"}, b""
                if api:
                    return self._api(name, files, action)
                if name in self.gated:
                    return 403, {"X-Error-Code": "GatedRepo"}, b""
                digest = hashlib.sha1(files[file]).hexdigest()
                return 200, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}, files[file]
        return 401, {"X-Error-Code": "RepoNotFound"}, b""

    def _api(
        self, name: str, files: Mapping[str, bytes], action: str
    ) -> tuple[int, dict[str, str], bytes]:
        if action == "tree":
            found: Any = [
                {
                    "type": "file",
                    "path": path,
                    "size": len(content),
                    "oid": hashlib.sha1(content).hexdigest(),
                }
                for path, content in files.items()
            ]
        else:
            siblings = [{"rfilename": path} for path in files]
            found = {"id": name, "sha": COMMIT, "siblings": siblings}
        return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()

    def fetched(self) -> set[str]:
        """The files that were asked for."""
        places = (path.partition(f"/resolve/{COMMIT}/")[2] for path in self.asked)
        return {place for place in places if place}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub's tools, and no network."""
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="not in the light environment"
    )
    datasets = pytest.importorskip("datasets", reason="not in the light environment")
    folder = tmp_path / "home" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    return folder


def fill(cache: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Puts files where ``hf download --repo-type dataset`` does."""
    base = cache / f"datasets--{name.replace('/', '--')}"
    for path, content in files.items():
        place = base / "snapshots" / COMMIT / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (base / "refs").mkdir(exist_ok=True)
    (base / "refs" / "main").write_text(COMMIT)


@pytest.fixture
def online(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine that the Hub's own tools talk to."""
    from huggingface_hub import constants

    served = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            status, headers, body = served.answer(self.path)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, here)
    monkeypatch.setattr(constants, "ENDPOINT", here)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    yield served
    served.hangs.set()
    server.shutdown()
    server.server_close()


TEST, TRAIN = "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"


# ---- in reach, and out of it -------------------------------------------------------------------


def test_only_the_files_of_the_split_are_fetched_and_then_kept(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"README.md": b"", TEST: parquet([5, 6, 7]), TRAIN: parquet([1, 2])}
    online.repositories["me/set"] = files
    dataset = sources.load("hf:me/set")
    assert (dataset.name, dataset.split, dataset.revision) == ("hf:me/set", "test", COMMIT)
    assert grays(dataset) == [5, 6, 7]
    assert online.fetched() == {TEST}
    asked = len(online.asked)
    assert grays(sources.load("hf:me/set")) == [5, 6, 7]
    assert len(online.asked) == asked + 1  # whether there is a newer commit
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    again = sources.load("hf:me/set")
    assert (grays(again), again.revision) == ([5, 6, 7], COMMIT)
    with pytest.raises(DataError, match="no such split in the cache.*'train of me/set'.*: test$"):
        sources.load("hf:me/set", "train")
    assert len(online.asked) == asked + 1


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_revision_is_asked_for_and_kept(
    online: Hub, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.repositories["me/set"] = {TEST: parquet([5, 6, 7])}
    assert sources.load(f"hf:me/set@{revision}").revision == COMMIT
    assert online.asked[0] == f"/api/datasets/me/set/revision/{revision}"
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    assert sources.load(f"hf:me/set@{revision}").revision == COMMIT
    with pytest.raises(DataError, match="hf download --repo-type dataset me/set --revision v2`"):
        sources.load("hf:me/set@v2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:me/none", r"^no such data set on the Hub: 'me/none'; see whether .*/me/none is there"),
        ("hf:me/set@v2", "^no such revision of me/set: 'v2'$"),
        ("hf:me/gated", "^this data set of the Hub is gated: 'me/gated'; accept its terms at"),
        ("hf:a/b/c", "^no id of a repository: 'a/b/c'; allowed: owner/name"),
        ("hf:@main", "^no id of a repository: ''"),
        ("hf:../x", "^no id of a repository: '../x'"),
    ],
)
def test_what_the_hub_does_not_give_is_refused(online: Hub, name: str, message: str) -> None:
    online.repositories |= {"me/set": {TEST: b""}, "me/gated": {TEST: b""}}
    online.gated.add("me/gated")
    with pytest.raises(DataError, match=message) as caught:
        sources.load(name)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [500, 0], ids=["in trouble", "never answers"])
def test_cache_is_used_when_the_hub_is_no_help(
    online: Hub, cache: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SECONDS", 0.2)
    online.status = status
    fill(cache, "me/set", {TEST: parquet([5, 6, 7])})
    assert grays(sources.load("hf:me/set")) == [5, 6, 7]
    assert len(online.asked) == 1  # not tried again
    with pytest.raises(DataError, match="the Hub cannot be reached"):
        sources.load("hf:me/other")


def test_wait_for_an_answer_ends_although_what_was_called_does_not() -> None:
    with pytest.raises(TimeoutError):
        snapshot._within(0.05, threading.Event().wait)
    with pytest.raises(ZeroDivisionError):
        snapshot._within(60, lambda: 1 // 0)
    assert snapshot._within(60, lambda: 7) == 7


@pytest.mark.parametrize("name", ["pets", "hf:timm/oxford-iiit-pet"])
def test_what_is_nowhere_is_answered_with_the_ways_to_get_it(cache: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        sources.load(name)
    for part in (
        "'timm/oxford-iiit-pet'",
        str(cache / "datasets--timm--oxford-iiit-pet"),
        "hf download --repo-type dataset timm/oxford-iiit-pet`",
        "HF_HOME",
        "--data-root DIR",
        "folder:PATH",
        "parquet:PATH",
    ):
        assert part in str(caught.value)
    assert caught.value.exit_status == 2


def test_cached_repository_is_read_as_the_hubs_own_library_reads_it(
    cache: Path, tmp_path: Path
) -> None:
    fill(cache, "me/set", {TEST: parquet([5, 6, 7, 9]), TRAIN: parquet([1, 2])})
    from datasets import load_dataset

    folder = cache / "datasets--me--set" / "snapshots" / COMMIT
    for split in ("test", "train"):
        reference = load_dataset(str(folder), split=split)
        dataset = sources.load("hf:me/set", split)
        assert list(dataset.class_names) == reference.features["label"].names
        assert [item.label for item in dataset.items] == reference["label"][:]
        assert grays(dataset) == [int(np.asarray(image)[0, 0]) for image in reference["image"]]


# ---- which files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/test-00000-of-00006.parquet", "test"),
        ("data/train-00000-of-00001-b5a1c2d3e4f50617.parquet", "train"),
        ("plain_text/validation-00001-of-00014.parquet", "validation"),
        ("data/val-00000-of-00001.parquet", "validation"),
        ("default/test/0000.parquet", "test"),
        ("test/part-00000-of-00002.parquet", "test"),
        ("valid.parquet", "validation"),
        ("data/fold_1-00000-of-00001.parquet", "fold_1"),
        ("test/0.tar", "test"),
        ("everything.parquet", ""),
    ],
)
def test_split_is_known_by_the_path(path: str, split: str) -> None:
    assert hub.split_of(path) == split


def test_data_set_with_splits_of_its_own_is_read_by_their_names(cache: Path) -> None:
    fill(cache, "me/set", {"data/fold_1-00000-of-00001.parquet": parquet([5, 6, 7])})
    assert grays(sources.load("hf:me/set", "fold_1")) == [5, 6, 7]


def test_food101s_test_images_are_those_called_validation(cache: Path) -> None:
    files = {"data/validation-00000-of-00001.parquet": parquet([5, 6, 7]), TRAIN: parquet([1, 2])}
    fill(cache, "ethz/food101", files)
    dataset = sources.load("food101")
    assert (dataset.name, dataset.split, grays(dataset)) == ("food101", "test", [5, 6, 7])
    assert dataset.class_names == ("apple_pie", "beet", "cake")
    assert dataset.prompt_names == ("apple pie", "beet", "cake")


def test_the_main_one_of_several_data_sets_is_meant(cache: Path) -> None:
    two = {f"{name}/test-00000-of-00001.parquet": parquet([i, 7]) for i, name in enumerate("ab")}
    fill(cache, "me/set", two)
    with pytest.raises(DataError, match=r"me/set holds several data sets: \['a', 'b'\]"):
        sources.load("hf:me/set")
    fill(cache, "me/set", {"default/test/0000.parquet": parquet([9, 7])})
    assert grays(sources.load("hf:me/set")) == [9, 7]


def test_repository_with_a_part_missing_is_refused(cache: Path) -> None:
    fill(cache, "me/set", {"data/test-00001-of-00002.parquet": parquet([1, 2])})
    with pytest.raises(DataError, match="files of this split are missing"):
        sources.load("hf:me/set")


def test_columns_are_those_of_the_row_unless_they_are_named(cache: Path) -> None:
    more = {"fine": [0, 1, 1]}
    names = {"label": ["a", "b", "c"], "fine": ["x", "y"]}
    fill(cache, "uoft-cs/cifar10", {TEST: parquet([5, 6, 7], names, image="img", **more)})
    assert sources.load("cifar10").class_names == ("a", "b", "c")
    assert sources.load("cifar10", label_column="fine").class_names == ("x", "y")
    with pytest.raises(DataError, match="no image column: 'image'; allowed: img, label, fine"):
        sources.load("cifar10", image_column="image")


# ---- other formats -----------------------------------------------------------------------------


AIRCRAFT = "clip-benchmark/wds_fgvc_aircraft"


def aircraft(shards: int) -> dict[str, bytes]:
    files = {
        f"test/{i}.tar": archive(
            {f"s{i}.webp": encoded(10 * i, "WEBP"), f"s{i}.cls": str(i % 2).encode()}
        )
        for i in range(shards)
    }
    counts = {"test/nshards.txt": f"{shards}\n".encode()}
    return files | counts | {"classnames.txt": b"707-320\nA_300\n"}


def test_archives_are_read_in_their_order_with_names_from_a_file(online: Hub) -> None:
    online.repositories[AIRCRAFT] = aircraft(11) | {"train/0.tar": b"not asked for"}
    dataset = sources.load("aircraft")
    assert grays(dataset) == [10 * i for i in range(11)]  # 10.tar comes after 2.tar
    assert [item.label for item in dataset.items] == [i % 2 for i in range(11)]
    assert dataset.class_names == ("707-320", "A_300")
    assert dataset.prompt_names == ("707-320", "A 300")
    assert dataset.revision == COMMIT
    assert "train/0.tar" not in online.fetched()


@pytest.mark.parametrize(
    ("lost", "message"),
    [("test/1.tar", "archives of this split are missing"), ("classnames.txt", "no classnames.txt")],
)
def test_archives_or_names_that_are_missing_are_noticed(
    cache: Path, lost: str, message: str
) -> None:
    fill(cache, AIRCRAFT, {path: c for path, c in aircraft(2).items() if path != lost})
    with pytest.raises(DataError, match=message):
        sources.load("fgvc_aircraft")


def test_what_else_the_hubs_library_reads_is_read_too(cache: Path) -> None:
    files = {f"test/{n}/{i}.png": encoded(10 * i) for i, n in enumerate(("cat", "dog"))}
    fill(cache, "me/set", files | {"test/cat/broken.png": b"no image"})
    dataset = sources.load("hf:me/set")
    assert dataset.class_names == ("cat", "dog")
    assert [item.label for item in dataset.items] == [0, 0, 1]
    assert [item.image_id for item in dataset.items] == ["test/0", "test/1", "test/2"]
    first, broken, last = dataset.items
    assert grays(dataset.take([0, 2])) == [0, 10] and first is not last
    with pytest.raises(DataError, match="cannot read image"):
        broken.open()
    with pytest.raises(DataError, match="cannot read split 'train' .*Unknown split"):
        sources.load("hf:me/set", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"set.py": b"raise SystemExit"}, "is a script.*hf:me/set@refs/convert/parquet"),
        ({"README.md": b"nothing"}, "cannot read split 'test'"),
        ({"test/0.tar": b"no archive"}, "cannot read split 'test'"),
        ({TEST: b"no table"}, "cannot read parquet file"),
    ],
    ids=["script", "empty", "archive", "table"],
)
def test_repository_without_images_is_refused_in_one_line(
    cache: Path, files: dict[str, bytes], message: str
) -> None:
    fill(cache, "me/set", files)
    with pytest.raises(DataError, match=message) as caught:
        sources.load("hf:me/set")
    assert "\n" not in str(caught.value)


# ---- names for prompts -------------------------------------------------------------------------

PETS = ["Abyssinian", "american_bulldog", "egyptian_Mau"]


@pytest.mark.parametrize(
    ("columns", "species"),
    [
        ({"label_cat_dog": [0, 1, 0, 1]}, [" cat", " dog", " cat"]),
        ({"label_cat_dog": ["cat", "dog", "cat", "dog"]}, [" cat", " dog", " cat"]),
        ({"image_id": ["Abyssinian_1", "american_1", "Egyptian_1", "american_2"]}, None),
        ({}, ["", "", ""]),
    ],
    ids=["numbers", "texts", "files", "neither"],
)
def test_pets_have_their_species_in_the_prompt(
    cache: Path, columns: dict[str, list[Any]], species: list[str] | None
) -> None:
    names = {"label": PETS, "label_cat_dog": ["cat", "dog"]}
    fill(cache, "timm/oxford-iiit-pet", {TEST: parquet([0, 1, 2, 4], names, **columns)})
    dataset = sources.load("pets")
    assert dataset.class_names == ("Abyssinian", "American Bulldog", "Egyptian Mau")
    expected = zip(dataset.class_names, species or [" cat", " dog", " cat"], strict=True)
    assert dataset.prompt_names == tuple(name + word for name, word in expected)


def test_numbers_of_species_without_names_are_no_help_but_file_names_are(cache: Path) -> None:
    columns = {"label_cat_dog": [7, 8], "image_id": ["Abyssinian_1", "pug_1"]}
    content = parquet([0, 1], {"label": ["abyssinian", "pug"]}, **columns)
    fill(cache, "timm/oxford-iiit-pet", {TEST: content})
    assert sources.load("pets").prompt_names == ("Abyssinian cat", "Pug dog")


def test_species_that_a_name_ends_with_is_not_said_twice(cache: Path) -> None:
    content = parquet([0, 1], {"label": ["tabby_cat", "pug"]}, image_id=["T_1", "p_1"])
    fill(cache, "timm/oxford-iiit-pet", {TEST: content})
    assert sources.load("pets").prompt_names == ("Tabby Cat", "Pug dog")


def test_imagenet_has_the_names_of_its_prompts(cache: Path) -> None:
    metadata = pytest.importorskip("open_clip.zero_shot_metadata", reason="has the names")
    place = "data/validation-00000-of-00001.parquet"
    synonyms = {"label": [f"tench, Tinca tinca {i}" for i in range(1000)]}
    fill(cache, "ILSVRC/imagenet-1k", {place: parquet([5, 6, 7], synonyms)})
    assert sources.load("imagenet").class_names == tuple(metadata.IMAGENET_CLASSNAMES)
    fill(cache, "ILSVRC/imagenet-1k", {place: parquet([5, 6, 7])})
    with pytest.raises(DataError, match="not ImageNet's classes: '3 classes'"):
        sources.load("imagenet")


# ---- the table of data sets --------------------------------------------------------------------


@pytest.mark.parametrize("spec", specs.SPECS.values(), ids=lambda spec: spec.name)
def test_row_says_where_the_images_are(spec: specs.DatasetSpec) -> None:
    assert (spec.source is None) == (spec.hub is not None and spec.layout is not None)
    assert all(template.count("{}") == 1 for template in spec.templates)
    assert "test" in spec.splits
    assert not spec.validation or {"train", "validation"} <= set(spec.splits)
    if spec.hub is not None:
        assert set(spec.hub.splits) <= set(spec.splits)
    last, keep = spec.stages.samples[-1], spec.stages.keep
    assert (
        len(spec.stages.samples) == len(keep) and keep[-1] == 1 and last == max(spec.stages.samples)
    )


def test_splits_that_the_hub_calls_otherwise_are_those() -> None:
    renamed = {n: dict(s.hub.splits) for n, s in specs.SPECS.items() if s.hub and s.hub.splits}
    # Food-101's and ImageNet's test images are published as validation
    assert renamed == {"food101": {"test": "validation"}, "imagenet": {"test": "validation"}}


@pytest.mark.parametrize(
    ("alias", "name"),
    [("food", "food101"), ("flowers", "flowers102"), ("aircraft", "fgvc_aircraft")],
)
def test_published_scripts_names_mean_the_same(alias: str, name: str) -> None:
    assert specs.find(alias) is specs.SPECS[name]


@pytest.mark.parametrize(
    ("name", "revision"),
    [("hf:me/set", ""), ("hf:me/set@refs/convert/parquet", "refs/convert/parquet")],
)
def test_repository_may_be_named_with_a_revision(name: str, revision: str) -> None:
    spec = specs.find(name)
    assert spec.hub == specs.Repository("me/set", revision)
    assert spec.name == name
