"""Generation of images into a folder, from typed options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.generation import samplers
from diffcls.generation.guides import Guide
from diffcls.generation.options import DATA_OPTIONS, Interrupted, ModelOptions
from diffcls.support.errors import DataError, UsageError
from diffcls.support.hashing import hash_bytes
from diffcls.support.options import MAX_COUNT, MAX_ROWS, MAX_STEPS, MAX_WEIGHT, free_text, within
from diffcls.support.paths import UserPath
from diffcls.support.signatures import takes

if TYPE_CHECKING:
    from diffcls.generation.classes import Classes
    from diffcls.generation.gallery import Gallery
    from diffcls.models.denoiser import Denoiser

MAX_DEFAULT_CLASSES = 10
"""Number of classes generated if none is named."""
DEFAULT_GUIDANCE = 2.0
UNUSED_BY_INTERPOLATION = (*DATA_OPTIONS, "guidance", "sampler", "seed", "trajectory")


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(ModelOptions):
    """Options of `generate_images`, in addition to those of `ModelOptions`.

    Args:
        prompts: sentences, for a model that reads texts.
        classes: names of classes of the data set; without these and `prompts`, its first ten.
        count: number of images per prompt or class; with `interpolate`, their total number.
        interpolate: two image files to interpolate between.
        guidance: weight of classifier-free guidance, 0 or more; 0 ignores the prompt, 1 is no
            guidance. None: 2, or 0 with a guide.
        guide: further guidance, one of `diffcls.generation.guides.GUIDES`.
        guide_weight: weight of the guide's gradient.
        guide_model: name or folder of the guide's classifier or CLIP; None: the data set's own.
        sampler, steps: a name in `diffcls.generation.samplers.SAMPLERS`; number of its steps.
        trajectory: whether to write the estimates of x0 after each step, too.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: that of the device.
        output_dir: parent of the folder that is written.

    Raises:
        UsageError: for a name or number that is not allowed, or options that exclude each other.
    """

    prompts: Sequence[str] = free_text((), "prompt")
    classes: Sequence[str] = free_text((), "class")
    count: int = within(1, MAX_COUNT, 4)
    interpolate: Sequence[UserPath | Path] | None = None
    guidance: float | None = within(0, MAX_WEIGHT, whole=False)
    guide: str | None = None
    guide_weight: float = within(0, MAX_WEIGHT, 1.0, whole=False)
    guide_model: UserPath | None = None
    sampler: str = samplers.DEFAULT
    steps: int = within(1, MAX_STEPS, 25)
    trajectory: bool = False
    dtype: str = "auto"
    batch_size: int = within(1, MAX_ROWS, 32)
    output_dir: UserPath | Path = "samples"

    def __post_init__(self) -> None:
        super().__post_init__()
        values = (self.prompts, self.classes, self.interpolate)
        flags = ("--prompt", "--class", "--interpolate")
        given = [flag for flag, value in zip(flags, values, strict=True) if value]
        if len(given) > 1:
            raise UsageError("options exclude each other", " ".join(given), "one of them")
        samplers.check_name(self.sampler)
        self._check_guide()
        if self.interpolate:
            self._check_interpolation()

    def _check_guide(self) -> None:
        if self.guide is None:
            return
        Guide(self.guide, self.guide_weight, self.guide_model)
        if self.interpolate:
            raise UsageError("--guide cannot be combined with --interpolate", self.guide)
        if self.guide in ("classifier", "diffusion") and self.prompts:
            what = f"--guide {self.guide} needs a class, not --prompt"
            raise UsageError(what, list(self.prompts), todo="use --class NAME")

    def unused(self) -> dict[str, str]:
        """Each option that has no effect, given the others -> why."""
        reasons = super().unused()
        if self.guide is None:
            reasons |= dict.fromkeys(("guide_weight", "guide_model"), "needs --guide")
            if self.prompts:
                why = "has no effect with --prompt, which replaces the classes"
                reasons |= dict.fromkeys(DATA_OPTIONS, why)
        if self.interpolate:  # it is deterministic and unconditional
            why = "has no effect with --interpolate"
            reasons |= dict.fromkeys(UNUSED_BY_INTERPOLATION, why)
        return reasons

    def _check_interpolation(self) -> None:
        for name in ("steps", "count"):
            if getattr(self, name) < 2:
                allowed = "2 or more with --interpolate"
                raise UsageError(f"--{name} out of range", getattr(self, name), allowed)
        for path in self.interpolate or ():
            if not Path(path).is_file():
                raise DataError("image file not found", given=str(path))


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
    with options.opened(options.dtype) as denoiser:
        return (_interpolated if options.interpolate else _sampled)(options, denoiser)


@dataclass
class _Requests:
    """One entry per image: label, prompt, sentence, and class index (−1 without a class)."""

    labels: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)


def _requests(options: GenerationOptions, denoiser: Denoiser, classes: Classes | None) -> _Requests:
    rows: list[tuple[str, str, str, int]]
    if options.prompts:
        if denoiser.labels is not None:
            what = "--prompt needs a model that reads texts"
            raise UsageError(what, given=denoiser.card.name, todo="use --class NAME")
        rows = [(text, text, text, -1) for text in options.prompts]
    elif classes is None:
        if options.classes:
            raise UsageError(
                "--class needs a class-conditional model, or a guide",
                given=denoiser.card.name,
                todo="add --guide classifier",
            )
        rows = [("unconditional", "", "", -1)]
    else:
        names = options.classes or classes.names[:MAX_DEFAULT_CLASSES]
        chosen = [classes.index(name) for name in names]
        rows = [(classes.names[k], classes.prompts[k], classes.texts[k], k) for k in chosen]
    requests = _Requests()
    for label, prompt, text, k in rows:
        requests.labels += [label] * options.count
        requests.prompts += [prompt] * options.count
        requests.texts += [text] * options.count
        requests.classes += [k] * options.count
    return requests


def _guidance(options: GenerationOptions, denoiser: Denoiser) -> float:
    if denoiser.labels == ():
        return 1.0  # an unconditional model has no prompt to be guided by
    if options.guidance is not None:
        return options.guidance
    return 0.0 if options.guide else DEFAULT_GUIDANCE


def _sampled(options: GenerationOptions, denoiser: Denoiser) -> GenerationResult:
    from diffcls.generation import sample as sampling
    from diffcls.generation.classes import classes_of, dataset_of
    from diffcls.generation.gallery import Gallery
    from diffcls.generation.guides import build_guidance

    classes = None
    if options.guide or not (options.prompts or denoiser.labels == ()):
        dataset = dataset_of(denoiser, options.dataset)
        classes = classes_of(denoiser, dataset, options.root, streaming=options.streaming)
    requests, guidance = _requests(options, denoiser, classes), None
    if options.guide and classes:
        guide = Guide(options.guide, options.guide_weight, options.guide_model)
        guidance = build_guidance(guide, denoiser, classes, requests.classes, requests.texts)
    settings = {
        **_model_settings(denoiser),
        "prompts": requests.prompts,
        "guidance": _guidance(options, denoiser),
        "guide": options.guide,
        "guided_to": requests.texts if options.guide else None,
        "guide_dataset": classes.dataset if options.guide and classes else None,
        "guide_weight": options.guide_weight if options.guide else None,
        "guide_model": options.guide_model,
        "sampler": options.sampler,
        "steps": options.steps,
        "seed": options.seed,
    }
    batches = sampling.sample(
        denoiser,
        requests.prompts,
        range(len(requests.prompts)),
        seed=options.seed,
        scale=settings["guidance"],
        steps=options.steps,
        batch_size=min(options.batch_size, len(requests.prompts)),
        sampler=options.sampler,
        guidance=guidance,
        trajectory=options.trajectory,
    )
    return _written(options, Gallery(Path(options.output_dir), settings, requests.labels), batches)


def _written(options: GenerationOptions, gallery: Gallery, batches: Any) -> GenerationResult:
    """Write each batch as soon as it is finished, so that an interruption keeps it."""
    from diffcls.generation.image_grid import to_bytes

    requested = len(gallery.labels)
    try:
        with options.progress(requested, "generating") as bar:
            for batch in batches:
                gallery.put(to_bytes(batch.images), [to_bytes(t) for t in batch.trajectory])
                bar.update(len(batch.images))
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
    from diffcls.generation.sample import Batch

    size, resizing = denoiser.image_size, denoiser.interpolation
    pixels = [to_pixels(load_image(path), size, resizing) for path in options.interpolate or ()]
    images = interpolate(denoiser, pixels, options.count, options.steps)
    settings = {
        **_model_settings(denoiser),
        "between": [hash_bytes(one.tobytes()) for one in pixels],
        "count": options.count,
        "steps": options.steps,
    }
    labels = ["from one image to the other"] * options.count
    return _written(options, Gallery(Path(options.output_dir), settings, labels), [Batch(images)])


def _model_settings(denoiser: Denoiser) -> dict[str, Any]:
    return {
        "model": denoiser.card.name,
        "revision": denoiser.card.revision,
        "dtype": str(denoiser.dtype).removeprefix("torch."),
    }


def _result(gallery: Gallery) -> GenerationResult:
    requested, images = len(gallery.labels), len(gallery.images)
    status = "complete" if images == requested else "partial"
    return GenerationResult(gallery.folder, requested, images, status, gallery.settings)
