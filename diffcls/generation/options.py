"""Options that generation, fidelity and likelihood share: the model and where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from diffcls.data import catalog
from diffcls.data.option_use import unused_by
from diffcls.models.executor_options import check_executor
from diffcls.models.model_argument import Model
from diffcls.support.environment import MAX_THREADS
from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_ROWS, MAX_SEED, check_values, within
from diffcls.support.paths import UserPath, expand_fields
from diffcls.support.progress import Progress
from diffcls.support.workers.requests import MAX_RAY_WORKERS, unused_workers

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset
    from diffcls.models.denoiser import Denoiser

Result = TypeVar("Result")

DATA_OPTIONS = ("dataset", "data_root", "streaming")


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
        model: name, folder or Hub id of a diffusion model, or a pipeline object of diffusers.
        dataset: name of a data set; None: the first one in the model's card.
        data_root: folder of local data.
        streaming: whether files of the Hub are read in place, without a download.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        batch_size: rows per forward pass.
        threads: CPU threads; None: torch's choice.
        seed: seed of all noise.
        quiet: whether to hide the progress bar.

    Raises:
        UsageError: for a number out of range.
    """

    model: UserPath | Model = "digits"
    dataset: UserPath | None = None
    data_root: UserPath | Path | None = None
    streaming: bool = False
    device: str = "auto"
    batch_size: int = within(1, MAX_ROWS, 64)
    threads: int | None = within(1, MAX_THREADS)
    seed: int = within(0, MAX_SEED, 0)
    quiet: bool = False

    def __post_init__(self) -> None:
        expand_fields(self)
        check_values(self)

    def unused(self) -> dict[str, str]:
        """Each option that has no effect, given the others -> why."""
        return {} if self.dataset is None else unused_by(catalog.find(self.dataset))

    @contextmanager
    def opened(self, dtype: str = "auto") -> Iterator[Denoiser]:
        """The model on its device, with the requested number of CPU threads.

        Args:
            dtype: data type of the weights; ``auto``: the default of the device.

        Raises:
            UsageError, ModelError: for a model, device or precision that is not available.
        """
        from diffcls.models import devices, given
        from diffcls.support.environment import denormals_flushed, set_threads

        given.check(self.model)
        devices.check_device(self.device)
        devices.check_dtype(dtype)
        self._check_local(given.trained_on(self.model))
        set_threads(self.threads)
        with denormals_flushed():
            denoiser = given.load(self.model, self.device, dtype)
            self._check_local(denoiser.card.trained_on)
            yield denoiser

    def data(self, split: str) -> Dataset | None:
        """A split of the given data set, or the model's own, read before a model is loaded.

        None where only the loaded model knows its data set.

        Raises:
            UsageError, DataError: see `diffcls.data.load.load_dataset`.
            UsageError, ModelError: for an unknown model.
        """
        from diffcls.data.load import load_dataset
        from diffcls.models import given

        given.check(self.model)
        trained_on = given.trained_on(self.model)
        self._check_local(trained_on)
        name = self.dataset or next(iter(trained_on), None)
        if name is None:
            return None
        return load_dataset(name, split, self.root, streaming=self.streaming)

    def check_data(self) -> None:
        """Check that the given data set, of which only the classes are needed, can be found.

        Raises:
            UsageError, DataError: see `diffcls.data.load.load_dataset`.
        """
        from diffcls.models.given import trained_on

        if self.dataset is None or self.dataset in trained_on(self.model):
            return  # the card has the classes
        spec = catalog.find(self.dataset)
        if spec.source is None or not spec.splits:  # bundled data are never missing
            self.data((spec.splits or ("test",))[0])

    def _check_local(self, trained_on: Sequence[str]) -> None:
        """Refuse ``data_root`` and ``streaming`` for the model's own data set, if it reads none."""
        if self.dataset is not None or not trained_on:
            return
        reasons = unused_by(catalog.find(trained_on[0]))
        for name, flag in (("data_root", "--data-root"), ("streaming", "--streaming")):
            if getattr(self, name) and name in reasons:
                raise UsageError(f"{flag} {reasons[name]}", todo=f"remove {flag}")

    @property
    def root(self) -> str | None:
        """`data_root` as text."""
        return None if self.data_root is None else str(self.data_root)

    def progress(self, total: int, title: str) -> Progress:
        """Progress over `total` images on stderr, see `diffcls.support.progress`."""
        return Progress(total, title, quiet=self.quiet)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(ModelOptions):
    """A model that may run in workers on a Ray cluster.

    Args:
        executor: ``serial``: in this process; ``ray``: in workers on a Ray cluster.
        workers: number of Ray's workers; None: one per GPU, or two without GPUs.
        address: HOST:PORT of a Ray cluster, or ``auto``; None: one that is started and stopped.

    Raises:
        UsageError: for a number out of range, or what workers cannot do or be sent.
    """

    executor: str = "serial"
    workers: int | None = within(1, MAX_RAY_WORKERS)
    address: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_executor(self.executor, self.workers, self.address, self.device, self.model)

    def unused(self) -> dict[str, str]:
        """Each option that has no effect, given the others -> why."""
        return {**super().unused(), **unused_workers(self.executor)}
