"""`quiet`: messages of the model libraries are off inside, and as they were afterwards."""

from __future__ import annotations

import pytest

pytest.importorskip("diffusers")

from diffcls.models.quiet import quiet


@pytest.mark.parametrize("enabled", [True, False])
def test_progress_bars_are_afterwards_as_the_user_had_set_them(enabled: bool) -> None:
    import diffusers
    import transformers

    loggers = (diffusers.utils.logging, transformers.utils.logging)
    before = [logger.is_progress_bar_enabled() for logger in loggers]
    try:
        for logger in loggers:
            logger.enable_progress_bar() if enabled else logger.disable_progress_bar()
        with quiet(), quiet():
            assert not any(logger.is_progress_bar_enabled() for logger in loggers)
        assert [logger.is_progress_bar_enabled() for logger in loggers] == [enabled, enabled]
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.enable_progress_bar() if was else logger.disable_progress_bar()
