"""What several test files share. Nothing here imports torch before a test asks for it."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the net
if "PYTEST_XDIST_WORKER" in os.environ:  # a core each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# `benchmarks` and `tools` are no part of the wheel: they are imported from the checkout, which
# comes last, so that an installed diffcls stays before the one of the checkout
sys.path.append(str(Path(__file__).parents[1]))

# a busy machine is no failure, and a test fails for a change only, never by chance
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the million objects of imported libraries out of all garbage collections."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


IMPORTS_TORCH = re.compile(r"^(?:import|from) (?:torch|diffusers|transformers)", re.MULTILINE)


class NeedsTorch(pytest.File):
    """A test file that is skipped, with its reason, where torch is not installed."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip("needs torch, which this environment does not have")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> NeedsTorch | None:
    if importlib.util.find_spec("torch") is not None:
        return None
    if not IMPORTS_TORCH.search(module_path.read_text(encoding="utf-8")):
        return None
    return NeedsTorch.from_parent(parent, path=module_path)


@pytest.fixture(autouse=True)
def inference_mode_ends() -> Iterator[None]:
    """A test that left torch's inference mode on would break the gradients of those after it."""
    yield
    if "torch" in sys.modules and (torch := sys.modules["torch"]).is_inference_mode_enabled():
        torch.autograd.grad_mode._enter_inference_mode(False)
        pytest.fail("torch's inference mode is still on after this test")


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """prediction_type -> folder of an untrained pipeline in Stable Diffusion's anatomy.

    Made once and shared: copy it before changing it.
    """
    made: dict[str, Path] = {}

    def folder(prediction_type: str = "v_prediction") -> Path:
        if prediction_type not in made:
            made[prediction_type] = tmp_path_factory.mktemp("models") / f"tiny-{prediction_type}"
            _save_tiny(made[prediction_type], prediction_type)
        return made[prediction_type]

    folder("v_prediction")  # now: its bar, and the library's log, are not to be a test's output
    return folder


def _save_tiny(folder: Path, prediction_type: str) -> None:
    import torch

    from diffcls.data.training_captions import caption
    from diffcls.models.small_stable_diffusion import TinyConfig, build_pipeline, save_half

    config = TinyConfig(
        vae_channels=(8, 8, 16),
        unet_channels=(16, 32),
        text_width=32,
        text_layers=1,
        max_tokens=20,
        vocabulary=600,
        prediction_type=prediction_type,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = build_pipeline(config, [caption("digits", i % 10, 0, i) for i in range(200)])
        with torch.no_grad():
            for name, parameter in pipeline.unet.named_parameters():
                if ".attn2." in name:  # an untrained network hardly listens to its prompt
                    parameter.mul_(4.0)
    save_half(pipeline, folder)
