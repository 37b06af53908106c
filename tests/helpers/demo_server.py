"""A demo of one small model on this machine, with a count of the model's forward passes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffcls.demo.models import Models
from diffcls.models.denoiser import Conditioning


class Counted:
    """A denoiser that counts its forward passes, and may wait before each.

    Args:
        denoiser: the model.
    """

    def __init__(self, denoiser: Any) -> None:
        self._denoiser = denoiser
        self.passes = 0
        self.seconds = 0.0
        self._lock = threading.Lock()

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        with self._lock:
            self.passes += 1
        time.sleep(self.seconds)
        result: Tensor = self._denoiser.predict(x_t, index, cond)
        return result

    def __getattr__(self, name: str) -> Any:
        if name == "_denoiser":  # before it is set, as by pickle
            raise AttributeError(name)
        return getattr(self._denoiser, name)


def count_passes(models: Models, preset: str = "digits") -> Counted:
    """Count the forward passes of a preset's model from now on."""
    classifier = models.classifier(preset)
    if not isinstance(classifier.denoiser, Counted):
        classifier.denoiser = Counted(classifier.denoiser)  # type: ignore[assignment]
        classifier._methods = {}
    counted: Any = classifier.denoiser
    counted.passes, counted.seconds = 0, 0.0
    return counted  # type: ignore[no-any-return]


@dataclass
class Watched:
    """A demo that is being served.

    Args:
        url: its address.
        model: its model, with a count of forward passes.
        service: what answers its visitors.
    """

    url: str
    model: Counted
    service: Any


@contextmanager
def demo(**options: Any) -> Iterator[Watched]:
    """A demo of the bundled digits on a free port; needs gradio."""
    from diffcls.demo.options import DemoOptions
    from diffcls.demo.server import running

    with running(DemoOptions(model="digits", device="cpu", port=0, **options)) as served:
        yield Watched(served.url, count_passes(served.service.models), served.service)
