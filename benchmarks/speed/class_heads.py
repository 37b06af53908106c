"""``python -m benchmarks.speed.class_heads``: the errors of all classes from one pass, beside one
pass a class.

A network that is told the class must be run once a class. Here a copy of a bundled model's U-Net is
told nothing, and ends in as many small heads as there are classes: head k is trained to predict the
noise of the images of class k, so one pass gives all K errors. Writes ``results/heads.csv`` and
``HEADS.md``: accuracy and cost beside the standard model, on the same images and draws.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.core.compare import records_of
from diffcls.cli import Parser, command

IMAGES = 256_000
"""Training images seen, after those that the standard model has seen."""
TESTED = 500
DRAWS = (1, 2, 4, 8, 16, 32)
DATASETS = ("digits", "fashion_mnist", "cifar10")
WIDTH = 24
"""Channels of a head."""
COLUMNS = (
    *("dataset", "network", "setting", "n", "accuracy", "ci_low", "ci_high"),
    *("forwards_per_image", "evaluations_worth", "mcnemar_p"),
)


class MultiHead(nn.Module):
    """A U-Net without prompt and K heads; head k predicts the native output for class k.

    Args:
        unet: of the standard model: its weights are where training begins.
        empty: (1, L, D) the empty prompt's conditioning, which is all that the U-Net reads.
        classes: K.
    """

    def __init__(self, unet: Any, empty: Tensor, classes: int) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(unet).to(memory_format=torch.contiguous_format)
        self.trunk.requires_grad_(True)
        wide, channels = unet.config.block_out_channels[0], unet.config.out_channels
        # its own last layer goes: what comes out is what that layer would have read
        self.trunk.conv_norm_out = self.trunk.conv_act = None
        self.trunk.conv_out = nn.Identity()
        self.register_buffer("empty", empty)
        self.shape = (classes, channels)
        grouped = {"kernel_size": 3, "padding": 1, "groups": classes}
        self.heads = nn.Sequential(
            nn.GroupNorm(8, wide),
            nn.SiLU(),
            nn.Conv2d(wide, classes * WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(classes * WIDTH, classes * WIDTH, **grouped),
            nn.SiLU(),
            nn.Conv2d(classes * WIDTH, classes * channels, **grouped),
        )

    def forward(self, x_t: Tensor, index: Tensor) -> Tensor:
        """x_t (B, C, h, w), index (B,) -> (B, K, C, h, w)."""
        text = self.empty.expand(len(x_t), -1, -1)
        features = self.trunk(x_t, index, encoder_hidden_states=text).sample
        out: Tensor = self.heads(features).unflatten(1, self.shape)
        return out


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.speed.class_heads", description=__doc__.splitlines()[0])
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--data-root", metavar="DIR", help="where local data lie")
    p.add_argument("--dataset", nargs="+", default=["fashion_mnist"], choices=DATASETS)
    p.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"({IMAGES:,})")
    p.add_argument("--test-images", type=int, default=TESTED, metavar="N", help=f"({TESTED})")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    flags = p.parse_args(arguments)

    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(flags.threads)
    with denormals_flushed():
        rows = [row for name in flags.dataset for row in compare(name, flags)]
    write(rows, flags.images, Path(flags.output_dir))
    return 0


def compare(dataset: str, flags: Any) -> list[dict[str, Any]]:
    """The rows of a data set: the standard model's, then the heads' at each number of draws."""
    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.evaluation.run import run_evaluation
    from diffcls.metrics.statistics import mcnemar_exact, wilson_interval
    from diffcls.models import loading
    from diffcls.training.run import tensor_of

    output = Path(flags.output_dir)
    denoiser: Any = loading.load(dataset)
    network = train(dataset, denoiser, flags, output / "fits" / f"heads-{dataset}")
    chosen, _ = choose(load_dataset(dataset, "test", flags.data_root), flags.test_images)
    images, labels = tensor_of(chosen, denoiser.image_size)
    with torch.inference_mode():
        x0 = torch.cat([denoiser.encode_images(part) for part in images.split(100)])
    errors = table(network, denoiser, x0, max(DRAWS))

    standard = run_evaluation(
        dataset=dataset,
        data_root=flags.data_root,
        limit=flags.test_images,
        output_dir=str(output / "tables"),
        threads=flags.threads,
        command="python -m benchmarks.speed.class_heads",
    )[0]
    records = records_of(output / "tables", standard["fingerprint"])
    theirs = [records[item.image_id].ranking[0] == item.label for item in chosen.items]
    worth = price(network, denoiser)
    rows = [
        {
            "dataset": dataset,
            "network": "one pass a class",
            "setting": "racing",
            "n": len(labels),
            **{name: standard[name] for name in ("accuracy", "ci_low", "ci_high")},
            "forwards_per_image": standard["evaluations_per_image"],
            "evaluations_worth": standard["evaluations_per_image"],
        }
    ]
    for draws in DRAWS:
        mine = errors[:, :, :draws].mean(axis=2).argmin(axis=1) == np.array(labels)
        low, high = wilson_interval(int(mine.sum()), len(labels))
        rows.append(
            {
                "dataset": dataset,
                "network": "one pass for all",
                "setting": f"{draws} draws",
                "n": len(labels),
                "accuracy": float(mine.mean()),
                "ci_low": low,
                "ci_high": high,
                "forwards_per_image": draws,
                "evaluations_worth": draws * worth,
                "mcnemar_p": mcnemar_exact(mine.tolist(), theirs),
            }
        )
    return rows


def train(dataset: str, denoiser: Any, flags: Any, folder: Path) -> MultiHead:
    """The trained network; checkpoints lie in `folder`, and a finished one is taken from there."""
    from diffcls.data.load import load_dataset
    from diffcls.support.seeding import key
    from diffcls.training.latent_losses import make_latents
    from diffcls.training.loop import Loop, Phase
    from diffcls.training.recipes import RECIPES
    from diffcls.training.run import tensor_of

    recipe, vae = RECIPES[dataset], denoiser.pipeline.vae
    data = load_dataset(dataset, "train", flags.data_root)
    images, labels = tensor_of(data, denoiser.image_size)
    latents = make_latents(vae, images, recipe, 0).clone() * vae.config.scaling_factor
    empty = denoiser.encode_prompts([""])["text"].clone()
    torch.manual_seed(key("heads", 0))
    network = MultiHead(denoiser.network, empty, len(data.class_names))
    loss = loss_of(network, denoiser, latents, torch.tensor(labels), recipe.batch)
    steps = flags.images // recipe.batch
    phase = Phase("heads", {"network": network}, loss, steps, 1e-3, recipe.warmup, recipe.ema)
    folder.mkdir(parents=True, exist_ok=True)
    Loop(phase, folder).run()
    return network


def loss_of(
    network: MultiHead, denoiser: Any, latents: Tensor, labels: Tensor, batch: int
) -> Callable[[int], Tensor]:
    """(step) -> mean squared error of the heads of the images' own classes."""
    from diffcls.training.loop import generator

    alpha, sigma = (torch.tensor(gain, dtype=torch.float32) for gain in _gains(denoiser))
    length = len(alpha)

    def loss(step: int) -> Tensor:
        rng = generator("heads", 0, step)
        image = torch.randint(latents.shape[1], (batch,), generator=rng)
        x0 = latents[torch.randint(latents.shape[0], (batch,), generator=rng), image]
        noise = torch.randn(x0.shape, generator=rng)
        u = (torch.arange(batch) + torch.rand(batch, generator=rng)) / batch
        index = (u * length).long().clamp(max=length - 1)
        a, s = (gain[index].view(-1, 1, 1, 1) for gain in (alpha, sigma))
        out = network(a * x0 + s * noise, index)[torch.arange(batch), labels[image]]
        return F.mse_loss(out, denoiser.parameterization.target(x0, noise, a, s))

    return loss


def _gains(denoiser: Any) -> list[np.ndarray]:
    return [denoiser.schedule.alpha.copy(), denoiser.schedule.sigma.copy()]


@torch.inference_mode()
def table(network: MultiHead, denoiser: Any, x0: Tensor, draws: int) -> np.ndarray:
    """(n, K, N) errors on the draws that the standard model is scored on."""
    from diffcls.diffusion.draws import nested_order, noise
    from diffcls.diffusion.timestep_allocation import allocate

    row, schedule = denoiser.parameterization, denoiser.schedule
    indices = allocate(nested_order(len(schedule), draws), denoiser.card.allocation, schedule)
    columns = []
    for draw, index in enumerate(indices.tolist()):
        alpha, sigma = float(schedule.alpha[index]), float(schedule.sigma[index])
        epsilon = noise(0, draw, denoiser.sample_shape)
        target = row.target(x0, epsilon, alpha, sigma)[:, None]
        # x_t = α·x0 + σ·ε; ε − ε̂ = (α/det)·(target − out)
        x_t = alpha * x0 + sigma * epsilon
        out = torch.cat([network(part, torch.full((len(part),), index)) for part in x_t.split(100)])
        square = (row.noise_scale(alpha, sigma) * (out - target)).square().flatten(2).mean(dim=2)
        columns.append(square.numpy())
    return np.stack(columns, axis=2)


@torch.inference_mode()
def price(network: MultiHead, denoiser: Any, rounds: int = 20, batch: int = 64) -> float:
    """What one pass for all classes costs, in evaluations of the standard model: a median."""
    x_t, index = torch.randn(batch, *denoiser.sample_shape), torch.arange(batch)
    cond = denoiser.encode_prompts([""]).rows(torch.zeros(batch, dtype=torch.long))
    ratios = []
    for _ in range(rounds):
        marks = [time.perf_counter()]
        denoiser.predict(x_t, index, cond)
        marks.append(time.perf_counter())
        network(x_t, index)
        marks.append(time.perf_counter())
        ratios.append((marks[2] - marks[1]) / (marks[1] - marks[0]))
    return float(np.median(ratios))


def write(rows: list[dict[str, Any]], images: int, output: Path) -> None:
    """The CSV and the page."""
    import pandas as pd

    from diffcls.support.environment import describe_device, versions
    from diffcls.support.files import write_text

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    write_text(output / "heads.csv", frame.to_csv(index=False, float_format="%.6g"))
    lines = [
        "# All classes from one pass",
        "",
        "Written by `python -m benchmarks.speed.class_heads`: the standard model is told the class "
        "and run "
        "once a class and draw; the other network, begun from its weights and trained on "
        f"{images:,} images more, is told nothing and ends in one head a class. Same images, same "
        "draws; p is McNemar's exact test against the standard model. What a pass for all classes "
        "costs was measured beside one evaluation of the standard model, at 64 rows.",
        "",
        f"{describe_device('cpu')}, {versions()}.",
        "",
        "| data set | network | setting | images | accuracy | 95 % interval | passes an image | "
        "worth, in evaluations | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        p = f"{r['mcnemar_p']:.3g}" if "mcnemar_p" in r else ""
        lines.append(
            f"| {r['dataset']} | {r['network']} | {r['setting']} | {r['n']} | "
            f"{r['accuracy']:.1%} | {r['ci_low']:.1%} to {r['ci_high']:.1%} | "
            f"{r['forwards_per_image']:.1f} | {r['evaluations_worth']:.1f} | {p} |"
        )
    write_text(output / "HEADS.md", "\n".join([*lines, ""]))


if __name__ == "__main__":
    sys.exit(main())
