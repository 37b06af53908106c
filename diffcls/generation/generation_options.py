"""Options of the generation of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffcls.generation import samplers
from diffcls.generation.control import files_of
from diffcls.generation.guides import Guide
from diffcls.generation.options import DATA_OPTIONS, WorkerOptions
from diffcls.support.errors import DataError, UsageError
from diffcls.support.options import MAX_COUNT, MAX_ROWS, MAX_STEPS, MAX_WEIGHT, free_text, within
from diffcls.support.paths import UserPath

UNUSED_BY_INTERPOLATION = (*DATA_OPTIONS, "guidance", "sampler", "seed", "trajectory")


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(WorkerOptions):
    """Options of `generate_images`, in addition to those of `WorkerOptions`.

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
        control: maps for a ControlNet, an image file or a folder of them; ``canny:PATH`` or
            ``soft:PATH`` for the edges of images. Image i has map i, modulo their number.
        control_model: ControlNet that reads them: bundled name, folder or Hub id; None: the
            bundled one of the model.
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
    control: UserPath | None = None
    control_model: UserPath | None = None
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
        self._check_control()
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

    def _check_control(self) -> None:
        if self.control is None:
            return
        others = {"--guide": self.guide, "--interpolate": self.interpolate}
        others["--executor ray"] = None if self.executor == "serial" else self.executor
        for flag, value in others.items():
            if value:
                what = f"--control cannot be combined with {flag}"
                raise UsageError(what, value, todo="remove one")
        if self.control_model is not None:
            from diffcls.models.control_files import check_name

            check_name(self.control_model)

    def check_data(self) -> None:
        """See `ModelOptions.check_data`; the maps are found, too, before a model is loaded."""
        if self.control is not None:
            files_of(self.control)
        super().check_data()

    def unused(self) -> dict[str, str]:
        """Each option that has no effect, given the others -> why."""
        reasons = super().unused()
        if self.control is None:
            reasons["control_model"] = "needs --control"
        if self.guide is None:
            reasons |= dict.fromkeys(("guide_weight", "guide_model"), "needs --guide")
            if self.prompts:
                why = "has no effect with --prompt, which replaces the classes"
                reasons |= dict.fromkeys(DATA_OPTIONS, why)
        if self.interpolate:  # it is deterministic and unconditional
            why = "has no effect with --interpolate"
            reasons |= dict.fromkeys(UNUSED_BY_INTERPOLATION, why)
            if self.executor != "serial":
                reasons["executor"] = f"{why}: it is one batch"
        return reasons

    def _check_interpolation(self) -> None:
        for name in ("steps", "count"):
            if getattr(self, name) < 2:
                allowed = "2 or more with --interpolate"
                raise UsageError(f"--{name} out of range", getattr(self, name), allowed)
        for path in self.interpolate or ():
            if not Path(path).is_file():
                raise DataError("image file not found", given=str(path))
