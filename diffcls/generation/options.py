"""Options that generation, fidelity and likelihood share: the model and where it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from diffcls.support.errors import UsageError
from diffcls.support.paths import UserPath, expand_fields

if TYPE_CHECKING:
    from diffcls.models.denoiser import Denoiser

Result = TypeVar("Result")


class Interrupted(KeyboardInterrupt, Generic[Result]):
    """Ctrl-C during a run, with the result of the images that were finished.

    Args:
        result: its status is ``partial``.
    """

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """A model, its data set and the machine that runs it.

    Args:
        model: name, folder or Hub id of a diffusion model.
        dataset: name of a data set; None: the first one in the model's card.
        data_root: folder of local data.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        batch_size: rows per forward pass.
        threads: CPU threads; None: torch's choice.
        seed: seed of all noise.
        quiet: whether to hide the progress bar.

    Raises:
        UsageError: for a number out of range.
    """

    model: UserPath = "digits"
    dataset: UserPath | None = None
    data_root: UserPath | Path | None = None
    device: str = "auto"
    batch_size: int = 64
    threads: int | None = None
    seed: int = 0
    quiet: bool = False

    def __post_init__(self) -> None:
        expand_fields(self)
        check_minimum(self, batch_size=1, threads=1)

    @contextmanager
    def opened(self, dtype: str = "auto") -> Iterator[Denoiser]:
        """The model on its device, with the requested number of CPU threads.

        Args:
            dtype: data type of the weights; ``auto``: the default of the device.

        Raises:
            UsageError, ModelError: for a model, device or precision that is not available.
        """
        from diffcls.models import devices, loading
        from diffcls.support.environment import denormals_flushed, set_threads

        loading.check_name(self.model)
        set_threads(self.threads)
        with denormals_flushed():
            device = devices.resolve_device(self.device)
            yield loading.load(self.model, device, devices.resolve_dtype(dtype))

    @property
    def root(self) -> str | None:
        """`data_root` as text."""
        return None if self.data_root is None else str(self.data_root)

    def progress(self, total: int, title: str) -> Any:
        """A progress bar over `total` images on stderr; none if quiet, or without a terminal."""
        from tqdm import tqdm

        return tqdm(total=total, desc=title, unit="img", disable=True if self.quiet else None)


def check_minimum(options: object, **minimum: int) -> None:
    """Raise UsageError for the first option below its minimum; None passes."""
    for name, bound in minimum.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} out of range", value, f"{bound} or more")
