"""Methods that need texts refuse class-conditional models."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_families import saved

import diffcls
from diffcls.support.errors import UsageError


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("synthetic", "needs a text-conditional model.*choose a text-to-image model"),
        ("sd-features", "model is class-conditional.*choose a text-to-image model"),
    ],
)
def test_class_conditional_model_is_refused(
    method: str, message: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = str(saved("dit", tmp_path_factory.getbasetemp()))
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(method=method, model=model, output_dir=str(tmp_path))
