"""Seeds of random generators, keyed by their purpose.

Numbers from such a generator depend on its key alone: not on the order of computations, nor on the
state of a global generator.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def key(*parts: object) -> int:
    """A seed in [0, 2⁶³) from any parts: the first 63 bits of their SHA-256."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def keyed_generator(seed: int, purpose: str) -> np.random.Generator:
    """A NumPy generator for one purpose; different purposes of one seed are independent."""
    import numpy as np

    # all 256 bits: NumPy's own SeedSequence takes seeds of any length
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
