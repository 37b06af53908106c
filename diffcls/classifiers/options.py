"""What a person may ask of an evaluation: one field a flag, with its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """The flags of ``python -m diffcls.evaluate``, and the arguments of `run_evaluation`.

    None always means "the default of the data set, the model or the search".

    Args:
        dataset: name of a data set, ``folder:PATH``, ``parquet:PATH`` or ``hf:ID``.
        split: name of the split.
        data_root: where local data lie: the set's own folder or its parent.
        image_column, label_column: of tables; None: found by their names and types.
        model: bundled name, short name, hub id ``ID[@revision]``, pipeline folder or
            ``.safetensors`` file; None: the data set's default model.
        clip_model: of the method clip and of the search propose: bundled name,
            ``ARCHITECTURE/TAG`` of open_clip, or folder.
        reference: of the method reference: ``classifier``, ``nearest-mean`` or ``chance``.
        guidance: of the method synthetic: scale of classifier-free guidance.
        images_per_class: of the method synthetic: images that it draws of each class.
        version: of Stable Diffusion, as the published script spells the model.
        model_config: for a single file: the folder, name or hub id that completes it.
        lora: ``FILE`` or ``FILE:WEIGHT``, merged into the model.
        check_model: test at load that the model predicts what its config says.
        method: one or more methods, each a row of its own.
        search: name of the search; None: racing, or paper where stages are given.
        draws: (timestep, noise) draws a class at most.
        confidence: of racing, in (0, 1).
        max_evaluations: of racing: evaluations (class, draw) an image at most.
        candidates: of tree, gradient and propose: classes left to the race.
        stages: of paper, as texts ``SAMPLES:KEEP``.
        n_samples, to_keep, n_trials: the same as the published script spells it; `n_trials` noises
            a timestep.
        prompts: CSV file with prompts.
        template: one or more templates with ``{}``.
        ensemble: templates that open_clip ships: ``imagenet80`` or ``imagenet7``.
        class_ids: CSV file with the class ids of a class-conditional model.
        aggregate: ``classes``: a class's prompts are averaged before they are compared;
            ``prompts``: prompts race and the best one's class wins, as in the published script.
        vote: how the draws come to one answer: ``mean``, ``rank`` or ``majority``.
        limit: a stratified sample of that many images.
        subset: a named subset, ``N-per-class``.
        indices: a file of positions within the split, one a line or a ``.npy`` array.
        img_size: side of the images, in pixels.
        interpolation: of the resize: bicubic, bilinear or lanczos.
        loss: l1, l2 or huber.
        weighting: of the ε-error over timesteps: a name, or a file that `replay --learn` wrote.
        allocation: where in time draws lie: a name, or a file that `replay --learn` wrote; None:
            the model's own, even where stages or a weighting are given.
        seed: keys the noise.
        dtype, device: precision and place of the network.
        batch_size: rows of a forward, or "auto".
        threads: of the CPU; None: torch's choice.
        noise_path: file with the noise of the first draws.
        save_errors: folder for one ``.npz`` an image.
        shard: "i/n".
        n_workers, worker_idx: the same as the published script spells it.
        budget: time that the run may take, as ``90m`` or ``2h``: images and draws are fitted to it.
        extra, load_stats: flags of the published script that change no number here: a run is known
            by its fingerprint, and what it holds already is never computed again.
        output_dir: the one folder that is written to.
        dry_run, json, quiet: say what would be done; machine output; no progress.
        command: as it stands in the leaderboard.
    """

    dataset: str = "digits"
    split: str = "test"
    data_root: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    model: str | None = None
    clip_model: str | None = None
    reference: str | None = None
    guidance: float | None = None
    images_per_class: int | None = None
    version: str | None = None
    model_config: str | None = None
    lora: str | None = None
    check_model: bool = True
    method: tuple[str, ...] = ("diffusion",)
    search: str | None = None
    draws: int | None = None
    confidence: float | None = None
    max_evaluations: int | None = None
    candidates: int | None = None
    stages: tuple[str, ...] | None = None
    n_samples: tuple[int, ...] | None = None
    to_keep: tuple[int, ...] | None = None
    n_trials: int | None = None
    prompts: str | None = None
    template: tuple[str, ...] | None = None
    ensemble: str | None = None
    class_ids: str | None = None
    aggregate: str = "classes"
    vote: str = "mean"
    limit: int | None = None
    subset: str | None = None
    indices: str | None = None
    img_size: int | None = None
    interpolation: str = "bicubic"
    loss: str | None = None
    weighting: str = "uniform"
    allocation: str | None = None
    seed: int = 0
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int | str | None = None
    threads: int | None = None
    noise_path: str | None = None
    save_errors: str | None = None
    shard: str | None = None
    n_workers: int | None = None
    worker_idx: int | None = None
    budget: str | None = None
    extra: str | None = None
    load_stats: bool = False
    output_dir: str = "results"
    dry_run: bool = False
    json: bool = False
    quiet: bool = False
    command: str = "diffcls.run_evaluation(...)"

    def setting(self) -> str:
        """The search options that were given, for the leaderboard; ``default`` without any."""
        given: dict[str, Any] = {
            "draws": self.draws,
            "confidence": self.confidence,
            "max_evaluations": self.max_evaluations,
            "candidates": self.candidates,
            "stages": self.stages and ",".join(self.stages),
            "n_samples": self.n_samples and ",".join(map(str, self.n_samples)),
            "to_keep": self.to_keep and ",".join(map(str, self.to_keep)),
            "n_trials": self.n_trials,
            "aggregate": None if self.aggregate == "classes" else self.aggregate,
            "vote": None if self.vote == "mean" else self.vote,
            "loss": self.loss,
            "allocation": self.allocation and self.allocation.partition(":")[0],
            "weighting": None if self.weighting == "uniform" else self.weighting.partition(":")[0],
        }
        return " ".join(f"{k}={v}" for k, v in given.items() if v is not None) or "default"
