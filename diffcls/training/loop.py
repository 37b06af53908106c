"""Training loop: AdamW steps, exponential moving average, early stopping and checkpoints.

Every random choice of a step depends on (seed, phase, step) alone, so a training that was killed
resumes to the same weights as one that was not.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffcls.support.errors import RecordError
from diffcls.support.files import write_bytes
from diffcls.support.progress import Progress
from diffcls.support.seeding import key
from diffcls.training.distributed import ProcessGroup
from diffcls.training.interrupt import interrupt_requested
from diffcls.training.optimiser import Ema, learning_rate
from diffcls.training.recipes import Optimisation
from diffcls.training.throughput import Throughput

Report = Callable[[int, Mapping[str, float]], None]
"""(step, values by name): receives the loss and the points of the curve."""
READ_EVERY = 20
"""Steps between readings of the loss on an accelerator, which waits for it."""
Measure = Callable[[int], dict[str, float]]
"""Batches seen -> values by name of a point of the curve."""


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on `parts` alone; each kind of device has numbers of its own."""
    return torch.Generator(device).manual_seed(key(*parts))


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Args:
        name: part of messages, file names and random keys.
        modules: trained modules by name.
        loss: (batch number) -> scalar loss of that batch, on the modules' device.
        optimisation: length and settings of the optimiser.
    """

    name: str
    modules: dict[str, nn.Module]
    loss: Callable[[int], Tensor]
    optimisation: Optimisation


@dataclass(frozen=True)
class EarlyStopping:
    """Early stopping (Prechelt 1998): end without improvement, and restore the best weights.

    Args:
        metric: value of `Measure` that decides; higher is better.
        eval_every: steps between evaluations.
        patience: evaluations without improvement after which training ends.
    """

    metric: str
    eval_every: int
    patience: int


class Loop:
    """Training of one phase, with checkpoints that resume to the same weights.

    Args:
        phase: modules and loss.
        folder: place of ``PHASE.pt``, the newest checkpoint, and ``PHASE-curve.jsonl``; None: keep
            neither.
        checkpoint_seconds: seconds between checkpoints.
        quiet: no progress bar.
        report: receives the loss every hundred steps, and each point of the curve.
        processes: data-parallel processes; only the main one writes.
        accumulate: gradient accumulation: batches per process and step.
        early_stopping: None: train all steps.

    Raises:
        ValueError: for early stopping with several processes.
        RecordError: for a checkpoint that cannot be read.
    """

    def __init__(
        self,
        phase: Phase,
        folder: Path | None,
        checkpoint_seconds: float = 120,
        quiet: bool = False,
        report: Report | None = None,
        processes: ProcessGroup | None = None,
        accumulate: int = 1,
        early_stopping: EarlyStopping | None = None,
    ) -> None:
        self.processes, self.accumulate = processes or ProcessGroup(), accumulate
        if early_stopping and self.processes.size > 1:
            raise ValueError("early stopping needs a single process")
        self.batches_per_step = self.processes.size * accumulate
        self.phase, self.early_stopping = phase, early_stopping
        self.steps = max(1, phase.optimisation.batches // self.batches_per_step)
        self.folder, self.checkpoint_seconds = folder, checkpoint_seconds
        self.quiet = quiet or not self.processes.is_main_process
        self.report = report or (lambda step, values: None)
        self.model = nn.ModuleDict(phase.modules).to(self.processes.device)
        self.ema = Ema(self.model, phase.optimisation.ema)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=phase.optimisation.learning_rate,
            betas=phase.optimisation.betas,
            weight_decay=phase.optimisation.weight_decay,
            fused=torch.device(self.processes.device).type == "cuda",
        )
        self.step, self.seconds = 0, 0.0
        self.best_step, self.best_value = 0, -math.inf
        self.evals_without_improvement = 0
        self._best: dict[str, Tensor] = {}
        self.path = folder and folder / f"{phase.name}.pt"
        if self.path and self.path.exists():
            self._load(self.path)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or early stopping ended the training."""
        stop = self.early_stopping
        return self.step >= self.steps or (
            stop is not None and self.evals_without_improvement >= stop.patience
        )

    def run(self, measure: Measure | None = None, points: int = 8) -> None:
        """Train to the end; the weights are the averaged ones afterwards, on the CPU.

        With early stopping they are the averaged ones of the best evaluation.

        Args:
            measure: called with the number of batches seen while the averaged weights are in
                place; its values are a point of the curve.
            points: number of evenly spaced points; without effect with early stopping.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the current step is saved.
            RecordError: for a loss that is not finite, or a checkpoint that cannot be written.
        """
        stop = self.early_stopping
        every = stop.eval_every if stop else -(-self.steps // points)
        self.model.train()
        saved, smooth, average = time.monotonic(), float("nan"), None
        images_per_step = self.phase.optimisation.batch * self.batches_per_step
        throughput = Throughput(images_per_step, self.step, self.seconds)
        with (
            Progress(
                self.steps, self.phase.name, "step", initial=self.step, quiet=self.quiet
            ) as progress,
            interrupt_requested(self.processes) as interrupted,
        ):
            while not self.finished:
                started = time.monotonic()
                loss = self._one_step()
                average = loss if average is None else average.lerp(loss, 0.01)
                at_point = self.step % every == 0 or self.step == self.steps
                if at_point or self.step % READ_EVERY == 0:
                    smooth = self._finite(average)  # waits for the device, so the rate is true
                self.seconds += time.monotonic() - started
                if at_point or self.step % READ_EVERY == 0:
                    shown = {"images/s": f"{throughput.since(self.step, self.seconds):,.0f}"}
                    progress.set_values(loss=f"{smooth:.4f}", **shown)
                progress.update()
                if self.step % 100 == 0:
                    rate = learning_rate(self.step, self.steps, self.phase.optimisation)
                    self.report(self.step, {"loss": smooth, "learning_rate": rate})
                if at_point:
                    if self.processes.is_main_process:
                        self._add_point(smooth, measure)
                    self.processes.wait()
                if time.monotonic() - saved > self.checkpoint_seconds or self.finished:
                    self._save(average)
                    saved = time.monotonic()
                elif interrupted():
                    self._save(average)
                    raise KeyboardInterrupt
        self.ema.swap()
        if self._best:
            self.model.load_state_dict(self._best)
        self.model.eval().to("cpu")

    def _one_step(self) -> Tensor:
        """Train one step; returns its loss, () in double precision."""
        optimisation = self.phase.optimisation
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, optimisation)
        self.optimizer.zero_grad(set_to_none=True)
        first = self.step * self.batches_per_step + self.processes.rank * self.accumulate
        parts = [self._backward(first + i) for i in range(self.accumulate)]
        self.processes.average_gradients(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), optimisation.gradient_clip)
        self.optimizer.step()
        self.step += 1
        self.ema.update(self.step)
        return torch.stack(parts).sum()

    def _backward(self, batch: int) -> Tensor:
        """Accumulate the gradients of one batch; returns its share of the step's loss."""
        loss = self.phase.loss(batch) / self.accumulate
        if loss.device.type == "cpu":  # elsewhere reading it would wait for the device
            self._finite(loss)
        loss.backward()
        return loss.detach().double()

    def _finite(self, loss: Tensor) -> float:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RecordError(
                f"the loss of {self.phase.name} is not finite at step {self.step}",
                given=value,
                allowed="a finite number",
                todo="train with a lower --learning-rate in another --output-dir",
            )
        return value

    def _add_point(self, loss: float, measure: Measure | None) -> None:
        point: dict[str, float] = {"step": self.step, "seconds": round(self.seconds, 1)}
        point["loss"] = round(loss, 6)
        if measure is not None:
            self.ema.swap()
            self.model.eval().to("cpu")  # where validation expects the modules
            values = measure(self.step * self.batches_per_step)
            point.update(values)
            if self.early_stopping:
                self._compare(values[self.early_stopping.metric])
            self.model.train().to(self.processes.device)
            self.ema.swap()
        self.report(self.step, {k: v for k, v in point.items() if k != "step"})
        if self.folder:
            path = self.folder / f"{self.phase.name}-curve.jsonl"
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(point) + "\n")

    def _compare(self, value: float) -> None:
        """Count an evaluation for early stopping; keep the weights in place if it is the best."""
        if value > self.best_value:
            self.best_step, self.best_value, self.evals_without_improvement = self.step, value, 0
            self._best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        else:
            self.evals_without_improvement += 1

    def _save(self, loss: Tensor) -> None:
        self._finite(loss)
        if self.path is None or not self.processes.is_main_process:
            return
        state: dict[str, Any] = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "ema": self.ema.shadow,
            "optimizer": self.optimizer.state_dict(),
        }
        if self.early_stopping:
            counts = (self.best_step, self.best_value, self.evals_without_improvement)
            state |= {"best": self._best, "early_stopping": counts}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.path, buffer.getvalue())

    def _load(self, path: Path) -> None:
        try:
            self._restore(torch.load(path, map_location=self.processes.device, weights_only=True))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a damaged archive or state raises different exceptions
            raise RecordError(
                f"a checkpoint of the training cannot be read ({type(error).__name__})",
                given=str(path),
                todo="delete it, then rerun the same command: this phase begins again",
            ) from error

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for average, stored in zip(self.ema.shadow, state["ema"], strict=True):
            average.copy_(stored)
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        if self.early_stopping:
            self._best = state["best"]
            counts = state["early_stopping"]
            self.best_step, self.best_value, self.evals_without_improvement = counts
