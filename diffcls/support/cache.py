"""What a method learned before it could classify: kept, so that it is learned once.

Each lies in ``OUTPUT_DIR/fits/METHOD-KEY.npz``, its key a hash of all that defines it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.support.errors import RecordError
from diffcls.support.files import locked, write_bytes

Arrays = dict[str, NDArray[Any]]
# of flags that a flipped bit sets, zipfile says RuntimeError; a lone array is no archive: TypeError
UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, TypeError),
    *(zipfile.BadZipFile, zlib.error),
)


def fitted(
    output_dir: str | Path, kind: str, defined_by: Mapping[str, Any], make: Callable[[], Arrays]
) -> Arrays:
    """Named arrays that `make` returns, from the disk where they were made before.

    Of several processes that ask for the same at once, one makes it and the others wait.

    Args:
        output_dir: of the run.
        kind: of what is learned, part of the file's name.
        defined_by: everything that defines the arrays, in plain JSON types.
        make: makes them.

    Raises:
        RecordError: for a file that cannot be read back.
    """
    text = json.dumps(defined_by, sort_keys=True, ensure_ascii=False, allow_nan=False)
    name = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    with locked(Path(output_dir) / "fits" / name) as path:
        if not path.exists():
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **{"defined_by": np.array(text), **make()})  # type: ignore[arg-type]
            write_bytes(path, buffer.getvalue())
        stored = read_arrays(path, "what was learned before")
    return {key: value for key, value in stored.items() if key != "defined_by"}


def read_arrays(path: Path, what: str) -> Arrays:
    """The named arrays of an ``.npz`` file that the package wrote.

    Raises:
        RecordError: where it cannot be read; `what` says in the message what it is.
    """
    try:
        # numpy itself leaves a file open that turns out to be none of its own
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except UNREADABLE as error:
        raise RecordError(
            f"{what} cannot be read ({error})",
            given=str(path),
            todo="remove that file, and run the command that made it: it makes it again",
        ) from error
