"""Options of ``python -m diffcls.demo``: one field per flag."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_ROWS, MAX_SEED, MAX_STEPS, check_values, within
from diffcls.support.paths import UserPath, expand_fields

LOOPBACK = "127.0.0.1"
MAX_PORT = 65_535
MAX_UPLOAD_MB, MAX_LABELS, MAX_RATE, MAX_QUEUE = 100, 1000, 10_000, 10_000
BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """The flags of ``python -m diffcls.demo``.

    Args:
        model: a bundled name, a folder or an id; None: visitors choose among the bundled models.
        clip_model: the CLIP that is asked, too; None: the bundled one of each bundled model.
        device, dtype: as of ``diffcls evaluate``.
        draws: maximum (timestep, noise) draws per label; None: the default of the race.
        seed: seed of the noise.
        batch_size: rows of a forward pass; smaller ones give more updates per second.
        host: address on which the page is served; the loopback address serves this machine alone.
        port: its port; 0: any free one; None: the first free one from 7860.
        max_upload_mb: size limit of an upload, in megabytes.
        max_labels: number of labels that a visitor may give.
        rate: questions per minute and visitor.
        queue: visitors that may wait.

    Raises:
        UsageError: for a value that is not allowed.
    """

    model: UserPath | None = None
    clip_model: UserPath | None = None
    device: str | None = None
    dtype: str | None = None
    draws: int | None = within(1, MAX_STEPS)
    seed: int = within(0, MAX_SEED, 0)
    batch_size: int = within(1, MAX_ROWS, 16)
    host: str = LOOPBACK
    port: int | None = within(0, MAX_PORT)
    max_upload_mb: int = within(1, MAX_UPLOAD_MB, 15)
    max_labels: int = within(2, MAX_LABELS, 20)
    rate: int = within(1, MAX_RATE, 20)
    queue: int = within(1, MAX_QUEUE, 16)

    def __post_init__(self) -> None:
        check_values(self)
        expand_fields(self)
        if self.host != "localhost":
            try:
                ipaddress.ip_address(self.host)
            except ValueError:
                raise UsageError(
                    "--host is no address of this machine",
                    given=self.host,
                    allowed=f"{LOOPBACK}, 0.0.0.0 for all networks, or another IP address",
                ) from None

    @property
    def max_upload_bytes(self) -> int:
        """Size limit of an upload, in bytes."""
        return self.max_upload_mb * BYTES_PER_MB

    @property
    def is_local(self) -> bool:
        """Whether the page is served to this machine alone."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
