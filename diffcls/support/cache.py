"""Cache of fitted arrays, such as a linear probe's weights or generated images.

Each entry is a file ``OUTPUT_DIR/fits/KIND-KEY.npz``; its key is a hash of all that defines it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.support.errors import RecordError
from diffcls.support.files import locked, write_bytes
from diffcls.support.hashing import canonical_json, hash_text

Arrays = dict[str, NDArray[Any]]
# RuntimeError: zipfile on flags set by a flipped bit; TypeError: a single array, not an archive
UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, TypeError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error),
)


def fitted(
    output_dir: str | Path, kind: str, defined_by: Mapping[str, Any], make: Callable[[], Arrays]
) -> Arrays:
    """The named arrays that `make` returns, read from the cache if they are there.

    When several processes request the same entry at once, one computes it and the others wait.

    Args:
        output_dir: output folder of the run.
        kind: kind of the fitted arrays; the first part of the file's name.
        defined_by: everything that defines the arrays, in plain JSON types.
        make: computes the arrays.

    Raises:
        RecordError: for a file that cannot be read back, or of another definition.
    """
    text = canonical_json(defined_by)
    with locked(_path(output_dir, kind, text)) as path:
        if not path.exists():
            data = _fetch(path.name)
            if data is None:
                buffer = io.BytesIO()
                np.savez_compressed(buffer, **{"defined_by": np.array(text), **make()})  # type: ignore[arg-type]
                data = buffer.getvalue()
            write_bytes(path, data)
        _used[path.name] = path
        stored = read_arrays(path, "cached fit")
    if str(stored.get("defined_by")) != text:
        raise RecordError(
            "cached fit is that of another definition",
            given=str(path),
            todo="delete the file and rerun the command to regenerate it",
        )
    return {key: value for key, value in stored.items() if key != "defined_by"}


Fetch = Callable[[str], bytes | None]
_fetch: Fetch = lambda name: None  # noqa: E731
_used: dict[str, Path] = {}


def fetch_from(fetch: Fetch) -> None:
    """Ask `fetch` for entries that this machine lacks, before they are computed.

    Args:
        fetch: name of an entry's file -> its content; None if it does not have it.
    """
    global _fetch
    _fetch = fetch


def entries_used() -> dict[str, Path]:
    """The files of all entries that this process has read or written, by their names."""
    return dict(_used)


def entries_in(output_dir: str | Path) -> list[Path]:
    """The files of all entries of an output folder."""
    return sorted(Path(output_dir, "fits").glob("*.npz"))


def put_entry(output_dir: str | Path, name: str, data: bytes) -> Path:
    """Write an entry that another machine has computed, unless it is there; returns its file."""
    with locked(Path(output_dir, "fits", name)) as path:
        if not path.exists():
            write_bytes(path, data)
    return path


def is_fitted(output_dir: str | Path, kind: str, defined_by: Mapping[str, Any]) -> bool:
    """Whether `fitted` would read its arrays from the cache; the arguments are the same."""
    path = _path(output_dir, kind, canonical_json(defined_by))
    return path.exists() or _fetch(path.name) is not None


def _path(output_dir: str | Path, kind: str, definition: str) -> Path:
    return Path(output_dir) / "fits" / f"{kind}-{hash_text(definition)}.npz"


def read_arrays(path: Path, kind: str) -> Arrays:
    """The named arrays of an ``.npz`` file that the package wrote.

    Args:
        path: the file.
        kind: kind of the file, as the error message calls it.

    Raises:
        RecordError: for a file that cannot be read.
    """
    try:
        # NumPy leaves a file open that is not in one of its formats
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except UNREADABLE as error:
        raise RecordError(
            f"{kind} cannot be read ({error})",
            given=str(path),
            todo="delete the file and rerun the command to regenerate it",
        ) from error
