"""Data-parallel training equals gradient accumulation in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.line_fit import line, trained
from torch import Tensor, nn

from diffcls.support.errors import UsageError
from diffcls.training.distributed import ProcessGroup, device_of, join
from diffcls.training.loop import Loop, Phase
from diffcls.training.recipes import Optimisation

ROOT = Path(__file__).parents[2]
PROCESS = """
import sys
import torch
sys.path[:0] = ["tests"]
from helpers.line_fit import trained
from diffcls.training.distributed import join

processes = join("cpu")
weights = trained(sys.argv[1], processes=processes)
torch.save(weights, f"{sys.argv[1]}/of-{processes.rank}.pt")
"""


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_two_processes_train_as_one_that_takes_two_batches_per_step(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    script = tmp_path / "process.py"
    script.write_text(PROCESS, encoding="utf-8")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *command, str(script), str(tmp_path / "two")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=240,
    )
    found = [torch.load(tmp_path / "two" / f"of-{rank}.pt", weights_only=True) for rank in (0, 1)]
    same(found[0], found[1])
    same(found[0], trained(tmp_path / "one", accumulate=2))
    # only the first of them writes
    assert sorted(p.name for p in (tmp_path / "two").glob("line*")) == [
        "line-curve.jsonl",
        "line.pt",
    ]


def test_accumulated_batches_are_one_larger_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    x = torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(1))

    def mean_of(batch: Tensor) -> Tensor:
        return (model(batch) - batch.sum(dim=-1, keepdim=True)).pow(2).mean()

    phase = Phase(
        "parts",
        {"model": model},
        lambda number: mean_of(x[number]),
        Optimisation(images=4, batch=1, learning_rate=0.0),
    )
    loop = Loop(phase, tmp_path, quiet=True, accumulate=4)
    assert loop.steps == 1
    value = loop._one_step()
    # the gradient is clipped to length 1 after it was summed
    (gradient,) = torch.autograd.grad(mean_of(x.flatten(0, 1)), model.weight)
    assert value == pytest.approx(float(mean_of(x.flatten(0, 1)).detach()), rel=1e-5)
    kept = model.weight.grad
    assert kept is not None
    assert torch.nn.functional.cosine_similarity(kept, gradient).item() == pytest.approx(1.0)


def test_images_seen_do_not_depend_on_accumulation_or_processes(tmp_path: Path) -> None:
    for accumulate in (1, 3):
        folder = tmp_path / str(accumulate)
        folder.mkdir()
        seen: list[int] = []

        def measure(batches: int, seen: list[int] = seen) -> dict[str, float]:
            seen.append(batches)
            return {}

        Loop(line(24), folder, quiet=True, accumulate=accumulate).run(measure, points=2)
        assert seen == [12, 24]


def test_a_single_process_does_not_import_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    processes = join("cpu")
    assert processes == ProcessGroup(0, 1, "cpu") and processes.is_main_process
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    processes.average_gradients([parameter])
    processes.wait()
    assert torch.equal(parameter.grad, torch.full((2,), 3.0))
    assert device_of(nn.Linear(1, 1)) == torch.device("cpu")


@pytest.mark.parametrize("accelerator", [True, False])
def test_default_device_is_an_accelerator_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, accelerator: bool
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: accelerator)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    expected = "cuda" if accelerator else "cpu"
    assert [join(device).device for device in (None, "auto")] == [expected] * 2


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
def test_training_names_a_malformed_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    with pytest.raises(UsageError, match=f"{name} cannot be read"):
        join("cpu")
