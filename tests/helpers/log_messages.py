"""Log messages of the package itself, apart from those of its dependencies."""

from __future__ import annotations

import pytest


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Messages that the package logged since the test began or the log was cleared.

    A dependency may log at a time that differs between runs: diffusers does while a fixture, made
    by whichever test asks first, saves its pipeline.
    """
    return [r.getMessage() for r in caplog.records if r.name.partition(".")[0] == "diffcls"]
