"""Configuration files: what YAML and TOML hold, read as the texts of a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcls.support.config_files import Value, read_config
from diffcls.support.errors import UsageError


def read(folder: Path, suffix: str, text: str) -> dict[str, Value]:
    path = folder / f"config{suffix}"
    path.write_text(text, encoding="utf-8")
    return read_config(str(path))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        # what YAML 1.1 would make of these: 30001, 83, 1000, 5400, a date, a float
        ("500:1", "500:1"),
        ("0123", "0123"),
        ("1_000", "1_000"),
        ("1:30:00", "1:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("0.10", "0.10"),
        ("digits", "digits"),
        ("'on'", "on"),
        ('"yes"', "yes"),
        ("folder:photos", "folder:photos"),
        ("[500:1, 0123, a]", ["500:1", "0123", "a"]),
        ("\n- a\n- b", ["a", "b"]),
        ("on", True),
        ("yes", True),
        ("true", True),
        ("off", False),
        ("No", False),
    ],
)
def test_yaml_keeps_the_text_of_a_value(tmp_path: Path, written: str, value: Value) -> None:
    assert read(tmp_path, ".yaml", f"key: {written}\n") == {"key": value}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5", "5"),
        ("0.10", "0.10"),
        ("1e400", "1e400"),
        ("'a'", "a"),
        ("true", True),
        ("[0, 1]", ["0", "1"]),
        ("['a', 'b']", ["a", "b"]),
    ],
)
def test_toml_values_become_texts(tmp_path: Path, written: str, value: Value) -> None:
    assert read(tmp_path, ".toml", f"key = {written}\n") == {"key": value}


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        (".yaml", "a: 1\nb: 2\na: 3\n", "a key twice, again in line 3: 'a'"),
        (".toml", "a = 1\na = 2\n", "not TOML"),
        (".yaml", "a: ~\n", "has no value of a"),
        (".yaml", "a:\n", "has no value of a"),
        (".yaml", "a: {b: c}\n", "a is a table"),
        (".toml", "[a]\nb = 1\n", "a is a table"),
        (".toml", "a = 2024-01-01\n", "a is date"),
        (".yaml", "a: [[b]]\n", "a is a boolean in a list|a is"),
        (".yaml", "a: [yes, no]\n", "a is a boolean in a list"),
        (".yaml", "a: !!python/object:os.system x\n", "python/object"),
        (".yaml", "- a\n", "has no keys"),
        (".yaml", "[a]: b\n", "a key that is no text"),
        (".yaml", "a: b\n---\nc: d\n", "not YAML"),
        (".yaml", "a: b: c\n", "not YAML"),
        (".yaml", "a: [\n", "not YAML"),
        (".json", "{}", "unknown suffix.*allowed: .yaml, .yml, .toml"),
        (".yaml", "a: " + "x" * 1_000_000, "too large"),
    ],
)
def test_what_is_no_option_is_refused(tmp_path: Path, suffix: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        read(tmp_path, suffix, text)
    assert str(refused.value).startswith("--config")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_config(str(tmp_path / "none.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"a: caf\xe9\n")
    with pytest.raises(UsageError, match="not valid UTF-8"):
        read_config(str(tmp_path / "latin.yaml"))
    with pytest.raises(UsageError, match="cannot be read"):
        (tmp_path / "folder.toml").mkdir()
        read_config(str(tmp_path / "folder.toml"))


def test_an_empty_file_has_no_options(tmp_path: Path) -> None:
    assert read(tmp_path, ".yaml", "# nothing\n") == read(tmp_path, ".toml", "") == {}


def test_the_home_folder_and_a_byte_order_mark_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yml").write_text("limit: 5\n", encoding="utf-8-sig")
    assert read_config("~/run.yml") == {"limit": "5"}
