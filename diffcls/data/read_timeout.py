"""Time limit of reading an image, for data on disks and networks that may hang."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from diffcls.data.dataset import Dataset
from diffcls.support.errors import DataError, DiffclsError
from diffcls.support.time_limit import TimeLimitError, within

if TYPE_CHECKING:
    from PIL import Image

MAX_TIMEOUTS_IN_A_ROW = 4
"""Images in a row that may exceed the time limit; one more, and the source counts as gone."""

DatasetT = TypeVar("DatasetT", bound=Dataset)


class SourceGoneError(DiffclsError):
    """So many images in a row exceeded the time limit that the source counts as gone.

    It is no `DataError`, which would be recorded as the failure of an image.
    """


@dataclass
class Source:
    """What the images of one data set share.

    Args:
        seconds: time limit of an image; of one on a server, limit of the time without progress.
        timeouts: number of images in a row that exceeded it.
    """

    seconds: float
    timeouts: int = 0


@dataclass(frozen=True)
class LimitedOpener:
    """The function `open` of an item, with a time limit.

    Args:
        open: reads the image.
        image_id: the image, for the message.
        source: shared by all images.
    """

    open: Callable[[], Image.Image]
    image_id: str
    source: Source = field(repr=False)

    def __call__(self) -> Image.Image:
        """The image.

        Raises:
            DataError: for an image that cannot be read, or not within the time limit.
            SourceGoneError: for the last of several in a row.
        """
        source = self.source
        try:
            image = within(source.seconds, self.open)
        except TimeoutError as error:
            source.timeouts += 1
            limit = (
                f"within --read-timeout {source.seconds:g} seconds"
                if isinstance(error, TimeLimitError)
                else f"({error})"
            )
            if source.timeouts > MAX_TIMEOUTS_IN_A_ROW:
                raise SourceGoneError(
                    f"{source.timeouts} images in a row could not be read {limit}",
                    given=self.image_id,
                    todo="check the disk or network, then rerun the same command to resume",
                ) from error
            raise DataError(f"image could not be read {limit}", given=self.image_id) from error
        except Exception:
            source.timeouts = 0
            raise
        source.timeouts = 0
        return image


def with_read_timeout(dataset: DatasetT, seconds: float) -> DatasetT:
    """The data set, its images read within a time limit; 0 for none.

    A read that hangs is abandoned in its thread: Python cannot end it.
    """
    if not seconds:
        return dataset
    source = Source(seconds)
    items = (
        replace(item, open=LimitedOpener(item.open, item.image_id, source))
        for item in dataset.items
    )
    return replace(dataset, items=tuple(items))
