"""Generation of images into a folder, from typed options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.generation.generation_options import GenerationOptions
from diffcls.generation.options import Interrupted
from diffcls.support.hashing import hash_bytes
from diffcls.support.signatures import takes

if TYPE_CHECKING:
    from diffcls.generation.gallery import Gallery
    from diffcls.generation.requests import Pictures
    from diffcls.models.denoiser import Denoiser

__all__ = ["GenerationOptions", "GenerationResult", "generate_images"]


@dataclass(frozen=True)
class GenerationResult:
    """A folder of generated images.

    Args:
        folder: holds ``0000.png`` …, ``grid.png``, ``samples.json`` and, if requested,
            ``trajectory.png`` and ``trajectory.gif``.
        requested: number of requested images.
        images: number of generated images.
        status: ``complete``, or ``partial`` after an interruption.
        settings: everything that decides the images.
    """

    folder: Path
    requested: int
    images: int
    status: str
    settings: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        """The single images, in order."""
        return [self.folder / f"{number:04d}.png" for number in range(self.images)]


@takes(GenerationOptions)
def generate_images(options: GenerationOptions) -> GenerationResult:
    """Generate images with a diffusion model and write them into a folder.

    The folder is ``OUTPUT_DIR/MODEL-KEY``, KEY a hash of the settings. An image depends on its seed
    and its number alone.

    Args:
        options: the fields of `GenerationOptions`, as keyword arguments.

    Returns:
        The folder and what is in it.

    Raises:
        UsageError, DataError, ModelError: for options that do not fit the model, or missing files.
        diffcls.generation.options.Interrupted: on Ctrl-C, with the images finished so far, if any.
    """
    options.check_data()
    if options.executor == "ray":
        return _by_workers(options)
    with options.opened(options.dtype) as denoiser:
        return (_interpolated if options.interpolate else _sampled)(options, denoiser)


def _sampled(options: GenerationOptions, denoiser: Denoiser) -> GenerationResult:
    from diffcls.generation.gallery import Gallery
    from diffcls.generation.requests import pictures, prepared

    asked = prepared(options, denoiser)
    gallery = Gallery(Path(options.output_dir), asked.settings, asked.labels)
    return _written(options, gallery, map(pictures, asked.batches(None)))


def _by_workers(options: GenerationOptions) -> GenerationResult:
    from diffcls.generation.gallery import Gallery
    from diffcls.generation.workers import GenerationTask, batches_of, pool_of, with_threads

    with pool_of(options) as pool:
        task = GenerationTask(with_threads(options))
        facts = pool.call(task, "facts")
        task = replace(task, facts=facts)  # all others must have the same
        settings, labels = dict(facts), facts["labels"]
        del settings["labels"]
        gallery = Gallery(Path(options.output_dir), settings, labels)
        size = min(options.batch_size, len(labels))
        return _written(options, gallery, batches_of(pool, task, len(labels), size))


def _written(
    options: GenerationOptions, gallery: Gallery, batches: Iterable[Pictures]
) -> GenerationResult:
    """Write each batch as soon as it is finished, so that an interruption keeps it."""
    requested = len(gallery.labels)
    try:
        with options.progress(requested, "generating") as bar:
            for images, trajectory in batches:
                gallery.put(images, trajectory)
                bar.update(len(images))
    except KeyboardInterrupt:
        if not gallery.images:
            raise
        raise Interrupted(_result(gallery)) from None
    finally:
        gallery.close()
    return _result(gallery)


def _interpolated(options: GenerationOptions, denoiser: Denoiser) -> GenerationResult:
    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.generation.gallery import Gallery
    from diffcls.generation.interpolate import interpolate
    from diffcls.generation.requests import model_settings, pictures
    from diffcls.generation.sample import Batch

    size, resizing = denoiser.image_size, denoiser.interpolation
    pixels = [to_pixels(load_image(path), size, resizing) for path in options.interpolate or ()]
    images = interpolate(denoiser, pixels, options.count, options.steps)
    settings = {
        **model_settings(denoiser),
        "between": [hash_bytes(one.tobytes()) for one in pixels],
        "count": options.count,
        "steps": options.steps,
    }
    labels = ["from one image to the other"] * options.count
    return _written(
        options, Gallery(Path(options.output_dir), settings, labels), [pictures(Batch(images))]
    )


def _result(gallery: Gallery) -> GenerationResult:
    requested, images = len(gallery.labels), len(gallery.images)
    status = "complete" if images == requested else "partial"
    return GenerationResult(gallery.folder, requested, images, status, gallery.settings)
