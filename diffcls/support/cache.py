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
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **{"defined_by": np.array(text), **make()})  # type: ignore[arg-type]
            write_bytes(path, buffer.getvalue())
        stored = read_arrays(path, "cached fit")
    if str(stored.get("defined_by")) != text:
        raise RecordError(
            "cached fit is that of another definition",
            given=str(path),
            todo="delete the file and rerun the command to regenerate it",
        )
    return {key: value for key, value in stored.items() if key != "defined_by"}


def is_fitted(output_dir: str | Path, kind: str, defined_by: Mapping[str, Any]) -> bool:
    """Whether `fitted` would read its arrays from the cache; the arguments are the same."""
    return _path(output_dir, kind, canonical_json(defined_by)).exists()


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
