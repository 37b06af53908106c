"""The loop that trains a phase: steps, averaged weights, checkpoints to go on from.

Every random choice of a step comes from (seed, phase, step), so a run that was killed goes on to
the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from diffcls.support.errors import RecordError
from diffcls.support.seeding import key
from diffcls.training.distributed import Team

Report = Callable[[int, Mapping[str, float]], None]
"""(step, values by name): what a training says of itself."""


def generator(*parts: object) -> torch.Generator:
    """A CPU generator that depends on `parts` alone."""
    return torch.Generator("cpu").manual_seed(key(*parts))


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Args:
        name: says it in messages, file names and random keys.
        modules: what is trained, by name.
        loss: (number) -> scalar loss of the batch of that number, wherever the modules lie.
        steps: how many batches there are.
        learning_rate, warmup, ema: see `diffcls.training.recipes.Recipe`.
    """

    name: str
    modules: dict[str, nn.Module]
    loss: Callable[[int], Tensor]
    steps: int
    learning_rate: float
    warmup: float
    ema: float


class Ema:
    """Moving average of the weights (Polyak averaging), warmed up so that it forgets the start."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = [p.detach().clone() for p in module.parameters()]
        self._parameters = list(module.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """shadow ← d·shadow + (1 − d)·weights, d = min(decay, (1 + step)/(10 + step))."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, self._parameters, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average; called twice it changes nothing."""
        for average, parameter in zip(self.shadow, self._parameters, strict=True):
            held = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(held)


def learning_rate(step: int, phase: Phase) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    warm = max(1, round(phase.warmup * phase.steps))
    if step < warm:
        return phase.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, phase.steps - warm)
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class Loop:
    """Trains a phase, with checkpoints from which it goes on to the same weights.

    Args:
        phase: what to train.
        folder: where ``PHASE.pt`` (the newest checkpoint) and ``PHASE-curve.jsonl`` are kept.
        every: seconds between checkpoints.
        quiet: no progress bar.
        report: (step, values) -> None, told of the loss every hundred steps and of each point.
        team: the processes that train together; only the first of them writes.
        accumulate: batches of each process before a step.
    """

    def __init__(
        self,
        phase: Phase,
        folder: Path,
        every: float = 120,
        quiet: bool = False,
        report: Report | None = None,
        team: Team | None = None,
        accumulate: int = 1,
    ) -> None:
        self.team, self.accumulate = team or Team(), accumulate
        # batches that a step is made of
        self.batches = self.team.size * accumulate
        self.phase = replace(phase, steps=max(1, phase.steps // self.batches))
        self.folder, self.every = folder, every
        self.quiet = quiet or not self.team.leads
        self.report = report or (lambda step, values: None)
        self.model = nn.ModuleDict(phase.modules).to(self.team.device)
        self.ema = Ema(self.model, phase.ema)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=phase.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.step, self.seconds = 0, 0.0
        self.path = folder / f"{phase.name}.pt"
        if self.path.exists():
            self._load()

    def run(
        self, measure: Callable[[int], dict[str, float]] | None = None, points: int = 8
    ) -> None:
        """Train to the end; weights are the averaged ones afterwards, on the CPU.

        Args:
            measure: called at `points` evenly spaced steps with the averaged weights in place and
                the batches seen; what it returns goes into the curve.

        Raises:
            KeyboardInterrupt: where somebody stopped it, after the step at hand was saved.
        """
        from tqdm import tqdm

        self.model.train()
        saved = time.monotonic()
        smooth = float("nan")
        with (
            tqdm(
                total=self.phase.steps,
                initial=self.step,
                desc=self.phase.name,
                unit="step",
                disable=True if self.quiet else None,
            ) as bar,
            _stop_asked(self.team) as stop_asked,
        ):
            while self.step < self.phase.steps:
                loss = self._one_step()
                smooth = loss if math.isnan(smooth) else 0.99 * smooth + 0.01 * loss
                bar.update()
                if self.step % 20 == 0:
                    bar.set_postfix(loss=f"{smooth:.4f}")
                if self.step % 100 == 0:
                    rate = learning_rate(self.step, self.phase)
                    self.report(self.step, {"loss": smooth, "learning_rate": rate})
                if self.step % -(-self.phase.steps // points) == 0 or self.step == self.phase.steps:
                    if self.team.leads:
                        self._note(smooth, measure)
                    self.team.wait()
                if time.monotonic() - saved > self.every or self.step == self.phase.steps:
                    self._save()
                    saved = time.monotonic()
                elif stop_asked():
                    self._save()
                    raise KeyboardInterrupt
        self.ema.swap()
        self.model.eval().to("cpu")

    def _one_step(self) -> float:
        started = time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.phase)
        self.optimizer.zero_grad(set_to_none=True)
        first = self.step * self.batches + self.team.rank * self.accumulate
        value = sum(self._backward(first + i) for i in range(self.accumulate))
        self.team.average(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.ema.update(self.step)
        self.seconds += time.monotonic() - started
        return value

    def _backward(self, batch: int) -> float:
        """Add the gradients of one batch; returns its share of the loss."""
        loss = self.phase.loss(batch) / self.accumulate
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RecordError(
                f"the loss of {self.phase.name} is not finite at step {self.step}",
                todo="start again with a lower --learning-rate",
            )
        loss.backward()
        return value

    def _note(self, loss: float, measure: Callable[[int], dict[str, float]] | None) -> None:
        line: dict[str, float] = {"step": self.step, "seconds": round(self.seconds, 1)}
        line["loss"] = round(loss, 6)
        if measure is not None:
            self.ema.swap()
            # whoever measures finds everything on the CPU
            self.model.eval().to("cpu")
            line.update(measure(self.step * self.batches))
            self.model.train().to(self.team.device)
            self.ema.swap()
        self.report(self.step, {k: v for k, v in line.items() if k != "step"})
        with open(self.folder / f"{self.phase.name}-curve.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        if not self.team.leads:
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "ema": self.ema.shadow,
            "optimizer": self.optimizer.state_dict(),
        }
        fresh = self.path.with_suffix(".pt.new")
        torch.save(state, fresh)
        os.replace(fresh, self.path)

    def _load(self) -> None:
        state = torch.load(self.path, map_location=self.team.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for mine, stored in zip(self.ema.shadow, state["ema"], strict=True):
            mine.copy_(stored)
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


@contextmanager
def _stop_asked(team: Team) -> Iterator[Callable[[], bool]]:
    """Whether somebody pressed Ctrl-C, which then waits for the end of the step; twice does not.

    Of several processes the others would be waited for in vain: there it stops at once.
    """
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if team.size > 1 or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
