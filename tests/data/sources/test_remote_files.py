"""Files on servers: shards at addresses, byte ranges, logins."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.small_hub import COMMIT, Hub, serving
from helpers.tar_shards import CLASSES, files_of, truth, write_shards, write_tar

from diffcls.data.load import load_dataset
from diffcls.data.sources import remote_requests
from diffcls.data.sources.remote_files import RemoteFile, beside, place_of, remote_file, text_of
from diffcls.support.errors import DataError, UsageError
from diffcls.support.hub import HubBusyError
from diffcls.support.time_limit import within

SET = "me/set"


@pytest.fixture
def server(online: Hub, tmp_path: Path) -> Iterator[str]:
    """Address of a folder of shards on a server, which is the Hub's stand-in."""
    folder = write_shards(tmp_path / "set", {"test/0.tar": [7, 3, 5], "test/1.tar": [9, 1]})
    online.repositories[SET] = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")
    }
    with serving(online) as address:
        yield f"{address}/datasets/{SET}/resolve/main"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed requests are repeated without a wait."""
    http = pytest.importorskip("huggingface_hub.utils._http", reason="not in light")
    monkeypatch.setattr(http.time, "sleep", lambda seconds: None)


def test_shards_at_addresses_are_those_of_the_folder(
    server: str, online: Hub, tmp_path: Path
) -> None:
    local = load_dataset(f"webdataset:{tmp_path / 'set'}")
    for address in (f"{server}/test/{{0..1}}.tar", f"hf://datasets/{SET}/test/{{1,0}}.tar"):
        remote = load_dataset(f"webdataset:{address}")
        assert truth(remote) == truth(local)
        assert (remote.revision, remote.split) == (local.revision, local.split)
        assert remote.class_names == local.class_names == CLASSES


def test_only_the_hub_receives_its_login(
    server: str, online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    load_dataset(f"webdataset:{server}/test/0.tar").items[0].open()
    assert set(online.logins) == {""}
    load_dataset(f"webdataset:hf://datasets/{SET}@{COMMIT}/test/0.tar").items[0].open()
    assert "Bearer hf_secret" in online.logins


def test_secrets_of_an_address_stand_in_no_message(
    server: str, online: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    place = server.partition("://")[2]
    dataset = load_dataset(f"webdataset:http://me:word@{place}/test/0.tar?signature=secret")
    assert [item.image_id for item in dataset.items] == ["0/s007", "0/s003", "0/s005"]
    online.status = 404
    with pytest.raises(DataError, match=r"cannot read file \(status 404\)") as caught:
        dataset.items[0].open()
    online.status = 503
    with pytest.raises(HubBusyError) as late:
        dataset.items[0].open()
    assert "503" in caplog.text
    for text in (str(caught.value), str(late.value), caplog.text):
        assert "0.tar" in text and "secret" not in text and "word" not in text


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/0.tar", "cannot read this address: 's3://bucket/0.tar'; allowed: http"),
        ("file:///etc/passwd", "cannot read this address"),
        ("hf://models/me/set/0.tar", "cannot read this address"),
        ("https://host/*.tar", r"allowed: braces, such as \{000..009\}; a server lists no files"),
        ("https://host/0.tar?part={0..3}", "addresses differ in their query alone"),
        ("https://host/{0..999999}.tar", "too many shards"),
    ],
)
def test_address_that_is_not_read_is_refused_before_a_request(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_dataset(f"webdataset:{address}")


def test_missing_shard_on_a_server_is_an_error_of_one_line(server: str) -> None:
    with pytest.raises(DataError, match=r"cannot read file \(status 4\d\d\): 'http.*/none.tar'"):
        load_dataset(f"webdataset:{server}/none.tar")


def test_server_that_does_not_respond_is_an_error_of_one_line() -> None:
    with pytest.raises(DataError, match=r"cannot read the data set \(no response from http://127"):
        load_dataset("webdataset:http://127.0.0.1:9/0.tar")


def test_stream_is_the_file_in_requests_of_a_block(server: str, online: Hub) -> None:
    content = bytes(range(256)) * 40
    online.repositories[SET]["a.bin"] = content
    file = RemoteFile(f"{server}/a.bin")
    before = len(online.requests)
    with file.open(4096) as stream:
        assert stream.read() == content
        assert stream.seek(-10, io.SEEK_END) == len(content) - 10
        assert stream.read(99) == content[-10:]
        assert stream.seek(5000) == 5000 and stream.seek(24, io.SEEK_CUR) == 5024
        assert stream.read(3000) == content[5024:8024]
        assert stream.read(0) == b""
        with pytest.raises(ValueError, match="before the start"):
            stream.seek(-1)
    assert file.size == len(content)
    assert len(online.requests) - before < 12
    assert file.read(9, 7) == content[9:16]
    with pytest.raises(DataError, match="file ends within the part that is read"):
        file.read(len(content) - 3, 9)


def test_place_is_host_and_path() -> None:
    assert place_of("https://me:word@host:80/a/0.tar?x=1#y") == "host:80/a/0.tar"
    assert place_of("hf://datasets/me/set@v1/0.tar") == "datasets/me/set@v1/0.tar"


def test_large_contents_are_skipped_in_the_index(server: str, online: Hub, tmp_path: Path) -> None:
    files = files_of([1, 2])
    files = [(n, c + bytes(9_000_000) if n.endswith("png") else c) for n, c in files]
    online.repositories[SET]["big/0.tar"] = write_tar(tmp_path / "b.tar", files).read_bytes()
    online.repositories[SET]["big/classnames.txt"] = b"a\nb\nc\n"
    sent = online.sent
    dataset = load_dataset(f"webdataset:{server}/big/0.tar")
    assert [item.label for item in dataset.items] == [1, 2]
    assert online.sent - sent < 20_000_000
    assert remote_file(f"{server}/big/0.tar").size > 18_000_000


def test_waits_and_slow_parts_do_not_count_against_the_time_limit(
    server: str, online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.repositories[SET]["a.bin"] = bytes(100)
    file = RemoteFile(f"{server}/a.bin")
    monkeypatch.setattr(remote_requests.time, "sleep", lambda seconds: threading.Event().wait(0.8))
    online.refusals = [(429, {"Retry-After": "4"})]
    assert within(0.6, lambda: file.read(0, 4)) == bytes(4)
    online.refusals = [(429, {"Retry-After": "3600"})]
    with pytest.raises(HubBusyError, match="in 3600 seconds to resume"):
        within(0.6, lambda: file.read(0, 4))
    online.refusals = [(429, {"RateLimit": '"resolvers";r=0;t=900'})]
    with pytest.raises(HubBusyError, match="in 900 seconds to resume"):
        file.read(0, 4)


@pytest.mark.parametrize("status", [404, 410, 403, 400])
def test_only_a_text_that_is_absent_is_none(
    server: str, online: Hub, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    online.has_ranges = False  # of a text, all is read
    assert text_of(f"{server}/classnames.txt") == "\n".join(CLASSES) + "\n"
    online.status = status
    if status == 400:
        with pytest.raises(TimeoutError, match="status 400"):
            text_of(f"{server}/classnames.txt")
    else:
        assert text_of(f"{server}/classnames.txt") is None
    assert ("no access to" in capsys.readouterr().err) == (status == 403)


def test_texts_are_asked_for_with_login_and_query_of_the_shards(server: str, online: Hub) -> None:
    place = server.partition("://")[2]
    load_dataset(f"webdataset:http://me:word@{place}/test/0.tar?signature=secret")
    texts = [path for path in online.requests if "classnames.txt" in path]
    assert texts and all(path.endswith("?signature=secret") for path in texts)
    assert beside("http://me:word@host:80/a/0.tar?x=1", "host:80/b") == (
        "http://me:word@host:80/b?x=1"
    )
