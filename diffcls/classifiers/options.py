"""Options of classifiers: the flags that a classification method depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diffcls.models.model_argument import Model
from diffcls.support.errors import UsageError
from diffcls.support.options import (
    MAX_COUNT,
    MAX_ROWS,
    MAX_SEED,
    MAX_WEIGHT,
    check_values,
    free_text,
    within,
)
from diffcls.support.paths import UserPath, expand_fields

MAX_DRAWS = 100_000
MAX_PIXELS = 16_384
"""Side of an image."""
MODEL_OPTIONS = frozenset(
    {"model", "version", "model_config", "lora", "variant", "img_size", "dtype"}
    | {"offload", "vae_slicing", "device_map", "check_memory"}
)
"""Options of a diffusion model, which every method with one reads."""
PROMPT_OPTIONS = frozenset({"prompts", "template", "ensemble"})
SEQUENCES = ("concept", "method", "template", "stages", "n_samples", "to_keep")
"""Options of several values; a single text counts as a sequence of one."""


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """The flags of ``python -m diffcls.evaluate`` that a classifier depends on.

    None always means "the default of the data set, the model or the search".

    Args:
        dataset: name of a data set, ``folder:PATH``, ``parquet:PATH``, ``hf:ID`` or
            ``webdataset:PATTERN``.
        split: name of the split.
        data_root: folder of local data: the data set's own folder or its parent.
        image_column, label_column: columns of tables; None: found by their names and types.
        streaming: whether files of the Hub are read in place, without a download.
        model: bundled name, short name, Hub id ``ID[@revision]``, pipeline folder or
            ``.safetensors`` file; or a pipeline object of diffusers; None: the data set's default
            model.
        clip_model: model of the method clip and of the search propose: bundled name,
            ``ARCHITECTURE/TAG`` of open_clip, folder, or ``hf-hub:OWNER/NAME``.
        backbone: model of the method features: name of timm, ``ARCHITECTURE/FILE.safetensors``,
            folder, or ``hf-hub:OWNER/NAME``.
        reference: kind of the method reference: ``classifier``, ``nearest-mean`` or ``chance``.
        guidance: scale of classifier-free guidance of the method synthetic, 0 or more.
        images_per_class: images per class that the method synthetic generates.
        version: version of Stable Diffusion, as the published script names the model.
        model_config: folder, name or Hub id that completes a single-file model.
        lora: ``FILE`` or ``FILE:WEIGHT``, merged into the model.
        concept: learned concepts, each ``FOLDER``, ``FILE`` or either with ``=LABEL``; see
            `diffcls.models.concept_files.parse`.
        control: condition that is computed of each image: ``canny`` or ``soft`` edges; or maps that
            a person gives, ``maps:DIR``, named like the images.
        control_model: ControlNet that reads it: bundled name, folder or Hub id; None: the bundled
            one of the model.
        variant: which weights of a model's folder are read where a part has several, such as
            ``non_ema``; default: those for the precision.
        method: one or more methods; each gives a row.
        search: name of the search; None: racing, or paper if stages are given.
        draws: (timestep, noise) draws per class at most.
        confidence: confidence of racing, in (0, 1).
        max_evaluations: evaluations (class, draw) per image at most, of racing.
        candidates: size of the shortlist of gradient, learned or propose.
        fit_images, fit_classes: unlabelled images that the search ``learned`` is fitted on, and
            random classes whose errors are measured on each of them.
        fit_folder: folder of these images; None: the training split.
        fit: file with the stored fit of other classes, for the same model.
        stages: stages of paper, as texts ``SAMPLES:KEEP``.
        n_samples, to_keep, n_trials: the same in the published script's spelling; `n_trials` noises
            per timestep.
        prompts: CSV file with prompts.
        template: one or more templates with ``{}``.
        ensemble: published templates: ``imagenet80``, ``imagenet7``, ``siglip`` or ``siglip81``.
        classnames: file with the names of the classes of a person's own data: one per line, or a
            CSV ``classidx, classname`` or ``folder, classname``.
        class_ids: CSV file with the class ids of a class-conditional model.
        aggregate: ``classes``: a class's prompts are averaged before classes are compared;
            ``prompts``: prompts race and the best one's class wins, as in the published script;
            ``rotate``: each draw evaluates one of the templates, the same for all classes.
        vote: aggregation of the draws: ``mean``, ``log``, ``rank`` or ``majority``.
        img_size: side of the images, in pixels.
        interpolation: resizing of images: bicubic, bilinear, lanczos or adm; None: the model's
            own, adm for DiT and bicubic for all others.
        loss: l1, l2 or huber; vlb or l2+vlb for a model with a learned variance.
        weighting: weighting of the ε-error over timesteps: a name, or a file that
            ``replay --learn`` wrote.
        allocation: distribution of the draws over time: ``even``, a name, or a file; None: the
            model's own, but even if stages or a weighting are given.
        reject: whether the answer may be "none of these": a third of the labels is withheld, and
            the background prompt is a class of its own.
        multi_label: whether each label is decided by itself; for data sets of several objects.
        background_prompt: text of the background; None: the empty prompt. With ``{}`` it is each
            label's own negation, of `multi_label` only.
        class_bias: number of unlabelled images of the training split from which a bias of the
            classes is estimated, see `diffcls.metrics.class_prior.match_prior`.
        combine: ``clip``: the posterior is combined with that of zero-shot CLIP.
        seed: seed of the noise.
        offload, vae_slicing, vae_tiling, compile, device_map: how the model is held in memory, see
            `diffcls.models.memory_options.MemoryOptions`.
        quantize: ``PARTS:BITS[:LIBRARY]``, see `diffcls.models.memory_options.Quantisation`.
        check_memory: whether a model is refused that does not fit by the forecast.
        dtype, device: precision of the network and the device it runs on.
        batch_size: rows of a forward pass, or "auto".
        noise_path: file with the noise of the first draws.
        save_errors: folder for one ``.npz`` file per image.
        output_dir: the only folder that is written to.
    """

    dataset: UserPath = "digits"
    split: str = "test"
    data_root: UserPath | None = None
    image_column: str | None = None
    label_column: str | None = None
    streaming: bool = False
    model: UserPath | Model | None = None
    clip_model: UserPath | None = None
    backbone: UserPath | None = None
    reference: str | None = None
    guidance: float | None = within(0, MAX_WEIGHT, whole=False)
    images_per_class: int | None = within(10, MAX_COUNT)
    version: str | None = None
    model_config: UserPath | None = None
    lora: UserPath | None = None
    concept: Sequence[UserPath] | None = None
    control: str | None = None
    control_model: UserPath | None = None
    variant: str | None = None
    method: Sequence[str] = ("diffusion",)
    search: str | None = None
    draws: int | None = within(1, MAX_DRAWS)
    confidence: float | None = within(0, 1, whole=False, is_open=True)
    max_evaluations: int | None = within(1, MAX_COUNT)
    candidates: int | None = within(1, MAX_COUNT)
    fit_images: int | None = within(50, MAX_COUNT)
    fit_classes: int | None = within(10, MAX_COUNT)
    fit_folder: UserPath | None = None
    fit: UserPath | None = None
    stages: Sequence[str] | None = None
    n_samples: Sequence[int] | None = within(1, MAX_DRAWS)
    to_keep: Sequence[int] | None = within(1, MAX_COUNT)
    n_trials: int | None = within(1, MAX_DRAWS)
    prompts: UserPath | None = None
    template: Sequence[str] | None = free_text()
    ensemble: str | None = None
    classnames: UserPath | None = None
    class_ids: UserPath | None = None
    aggregate: str = "classes"
    vote: str = "mean"
    img_size: int | None = within(1, MAX_PIXELS)
    interpolation: str | None = None
    loss: str | None = None
    weighting: UserPath = free_text("uniform")  # resolved, it holds the numbers of a file
    allocation: UserPath | None = free_text()
    reject: bool = False
    multi_label: bool = False
    background_prompt: str | None = free_text()
    class_bias: int | None = within(1, MAX_COUNT)
    combine: str | None = None
    seed: int = within(0, MAX_SEED, 0)
    offload: str = "none"
    vae_slicing: bool = False
    vae_tiling: bool = False
    compile: bool = False
    quantize: str | None = None
    device_map: str | None = None
    check_memory: bool = True
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int | str | None = within(1, MAX_ROWS, words=("auto",))
    noise_path: UserPath | None = None
    save_errors: UserPath | None = None
    output_dir: UserPath = "results"

    def __post_init__(self) -> None:
        expand_fields(self)
        for name in SEQUENCES:
            value = getattr(self, name)
            if value is not None:
                values = (value,) if isinstance(value, str) else tuple(value)
                object.__setattr__(self, name, values)
        rows = self.batch_size
        if isinstance(rows, str) and rows.isascii() and rows.isdigit():
            object.__setattr__(self, "batch_size", int(rows))
        check_values(self)
        twice = [name for i, name in enumerate(self.method) if name in self.method[:i]]
        if twice:
            raise UsageError("--method names a method twice", given=twice[0], todo="remove one")

    def setting(self) -> str:
        """The given search options, as the leaderboard shows them; ``default`` without any."""
        given: dict[str, Any] = {
            "draws": self.draws,
            "confidence": self.confidence,
            "max_evaluations": self.max_evaluations,
            "candidates": self.candidates,
            "fit_images": self.fit_images,
            "fit_classes": self.fit_classes,
            "stages": self.stages and ",".join(self.stages),
            "n_samples": self.n_samples and ",".join(map(str, self.n_samples)),
            "to_keep": self.to_keep and ",".join(map(str, self.to_keep)),
            "n_trials": self.n_trials,
            "aggregate": None if self.aggregate == "classes" else self.aggregate,
            "vote": None if self.vote == "mean" else self.vote,
            "loss": self.loss,
            "allocation": self.allocation and self.allocation.partition(":")[0],
            "control": self.control and self.control.partition(":")[0],
            "reject": self.background_prompt or "empty prompt" if self.reject else None,
            "class_bias": self.class_bias,
            "combine": self.combine,
            "weighting": None if self.weighting == "uniform" else self.weighting.partition(":")[0],
        }
        return " ".join(f"{k}={v}" for k, v in given.items() if v is not None) or "default"
