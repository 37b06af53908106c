"""No code of a model ever runs, whatever stdin says: each payload would create a marker file."""

from __future__ import annotations

import builtins
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.payloads import HARMLESS, PAYLOADS, Place, with_auto_map

from diffcls.models import loading
from diffcls.models.feature_extractors import WEIGHTS_OF_INCEPTION
from diffcls.support.errors import DiffclsError

Pipelines = Callable[[str], Path]
CLIP = loading.WEIGHTS / "clip-digits"


@pytest.fixture
def place(tmp_path: Path, tiny_pipeline: Pipelines, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Folder of a payload; stdin says yes to every question, and copied code goes nowhere else."""
    from diffusers.utils import dynamic_modules_utils
    from transformers import dynamic_module_utils

    for module in (dynamic_module_utils, dynamic_modules_utils):
        monkeypatch.setattr(module, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return Place(tmp_path, tiny_pipeline("v_prediction"), CLIP)


@pytest.mark.parametrize("name", PAYLOADS)
def test_payload_does_not_run(name: str, place: Place) -> None:
    opens = PAYLOADS[name](place)
    if name in HARMLESS:
        opens()
    else:
        with pytest.raises(DiffclsError) as caught:
            opens()
        assert "\n" not in str(caught.value)
    assert not place.marker.exists()
    assert sys.stdin.read() == "y\n" * 20  # nothing was asked


def test_payloads_do_run_where_their_code_is_trusted(place: Place) -> None:
    """The payloads are real: the libraries run them if they are allowed to."""
    import pickle

    from transformers import AutoConfig

    pickle.loads(place.pickled())
    assert place.marker.exists()
    place.marker.unlink()
    with_auto_map(place.folder)
    place.code(place.folder)
    AutoConfig.from_pretrained(place.folder, trust_remote_code=True)
    assert place.marker.exists()


def test_at_least_forty_payloads() -> None:
    assert len(PAYLOADS) >= 40


def test_no_question_is_asked_while_a_model_loads() -> None:
    from transformers import dynamic_module_utils

    from diffcls.models.quiet import alone

    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    with alone(), pytest.raises(ValueError, match="custom code"):
        dynamic_module_utils.resolve_trust_remote_code(None, "a/b", False, True)
    assert dynamic_module_utils.TIME_OUT_REMOTE_CODE == before


def test_inception_is_opened_only_if_it_is_the_published_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    import torch

    from diffcls.models import feature_extractors

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(place.folder))
    (place.folder / "checkpoints").mkdir()
    (place.folder / "checkpoints" / WEIGHTS_OF_INCEPTION).write_bytes(place.zipped())
    with pytest.raises(DiffclsError, match="not the published file"):
        feature_extractors.load("inception", (), (), "cpu")
    assert not place.marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "part of transformers.AutoTokenizer",
        "CLIP: text encoder of another folder",
        "CLIP: tokenizer with auto_map",
    ],
)
def test_command_asks_nothing_of_a_terminal_that_says_yes(name: str, place: Place) -> None:
    PAYLOADS[name](place)
    kind = "clip" if name.startswith("CLIP") else "pipeline"
    words = ["--model", str(place.folder / kind), "--limit", "1", "--output-dir"]
    method = ["--method", "clip"] if kind == "clip" else []
    done = subprocess.run(
        [sys.executable, "-m", "diffcls.evaluate", *method, *words, str(place.folder / "out")],
        input="y\n" * 20,
        capture_output=True,
        text=True,
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "run the custom code" not in done.stdout + done.stderr
    assert not place.marker.exists()
