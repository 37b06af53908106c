"""``python -m diffcls.likelihood``: the variational bound of images under a diffusion model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.cli import check_least, command, parser_of
from diffcls.cli.flags import add_machine, add_output, add_source, opened
from diffcls.support.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset
    from diffcls.diffusion.bound import Bound
    from diffcls.generation.likelihood import Estimator
    from diffcls.models.denoiser import Denoiser
    from diffcls.support.types import Float64

EPILOG = """Of a model of pixels it bounds -log p of the images as whole numbers 0 to 255, in bits a
dimension. A model of latents bounds a density of its latents, which depends on their scale: its
figure is labelled so, and compares with no other model's.

examples:
  python -m diffcls.likelihood
  python -m diffcls.likelihood --model fashion_mnist-pixels --data-root data --limit 1000
  python -m diffcls.likelihood --told class --levels 100

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""

CHUNK = 50
"""Images between two looks at the clock: what an interruption loses at most."""
VARIANCES = ("small", "large", "learned")


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = parser_of(
        "likelihood",
        "The variational bound on -log p of images, term by term.",
        EPILOG,
    )
    add = p.add_argument_group("of what").add_argument
    add_source(add, "digits-pixels")
    add("--split", default="test", metavar="NAME", help="(test)")
    add("--limit", type=int, default=500, metavar="N", help="a stratified sample of N images (500)")
    add = p.add_argument_group("how").add_argument
    add("--told", default="nothing", metavar="T", help="nothing (default), or each image's class")
    add(
        "--variance", metavar="V", help="small, large or learned (learned where it was, else large)"
    )
    add("--levels", type=int, default=20, metavar="N", help="looked at of each image (20)")
    add("--seed", type=int, default=0, metavar="N", help="keys levels and noise (0)")
    add_machine(add, 64)
    add_output(p, "results", "of fidelity.csv")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    check_least(flags, limit=1, levels=1, batch_size=1)
    if flags.told not in ("nothing", "class"):
        raise unknown_name("thing to be told", flags.told, ("nothing", "class"))
    if flags.variance is not None and flags.variance not in VARIANCES:
        raise unknown_name("variance of the reverse step", flags.variance, VARIANCES)

    # in single precision: terms of a tenth of a bit would be lost in a shorter one
    with opened(flags, "float32") as denoiser:
        return _measure(flags, denoiser)


def _measure(flags: argparse.Namespace, denoiser: Denoiser) -> int:
    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.diffusion.bound import summarise
    from diffcls.diffusion.process import is_flow
    from diffcls.generation.classes import dataset_of
    from diffcls.models.loading import images_seen
    from diffcls.runs import fidelity_table

    if is_flow(denoiser.schedule):
        raise UsageError(
            "the bound of a flow is not implemented",
            given=denoiser.card.name,
            allowed="models whose schedule preserves variance",
        )
    dataset = dataset_of(denoiser, flags.dataset)
    data, _ = choose(load_dataset(dataset, flags.split, flags.data_root), flags.limit)
    how, prompts = _estimator(flags, denoiser), _prompts(flags, denoiser, dataset, data)
    table = Path(flags.output_dir) / "fidelity.csv"
    fidelity_table.check(table)
    terms, stopped = _terms(flags, denoiser, data, prompts, how)
    if not len(terms):
        raise KeyboardInterrupt
    shape = denoiser.sample_shape
    found = summarise(terms, shape[0] * shape[1] * shape[2])
    row = {
        "model": denoiser.card.name,
        "dataset": data.name,
        "split": flags.split,
        "metric": "bits_per_dim",
        "extractor": _unit(denoiser) + (f", variance {how.variance}" if flags.variance else ""),
        "n": found.images,
        "value": found.mean,
        "stderr": found.stderr,
        # as samples are guided: 0 asks the empty prompt alone, 1 the class's
        "guidance": float(flags.told == "class"),
        "steps": flags.levels,
        "training_images": images_seen(flags.model),
    }
    if not stopped:
        fidelity_table.put(table, [row])
    _say(flags, denoiser, found, row, how, stopped)
    return 130 if stopped else 0


def _estimator(flags: argparse.Namespace, denoiser: Denoiser) -> Estimator:
    from diffcls.diffusion.bound import discretised_decoder, gaussian_decoder
    from diffcls.generation.likelihood import Estimator, learns_variance

    pixels = _of_pixels(denoiser)
    learned = learns_variance(denoiser)
    if flags.variance == "learned" and not learned:
        raise UsageError("the model has learned no variance", denoiser.card.name, "small or large")
    return Estimator(
        discretised_decoder() if pixels else gaussian_decoder,
        flags.variance or ("learned" if learned else "large"),
        flags.levels,
        clip=pixels,
        seed=flags.seed,
        batch_size=flags.batch_size,
    )


def _of_pixels(denoiser: Denoiser) -> bool:
    return getattr(denoiser, "autoencoder", None) is None


def _unit(denoiser: Denoiser) -> str:
    """What a dimension is, as it stands beside the figure."""
    shape = "x".join(map(str, denoiser.sample_shape))
    return f"pixels-{shape}" if _of_pixels(denoiser) else f"latents-{shape}-of-{denoiser.card.name}"


def _prompts(
    flags: argparse.Namespace, denoiser: Denoiser, dataset: str, data: Dataset
) -> list[str]:
    """What the model is told: one prompt for every image, or one each."""
    from diffcls.generation.classes import classes_of

    if flags.told == "nothing":
        return [""]
    if denoiser.labels == ():
        raise UsageError("an unconditional model is told nothing", given="--told class")
    classes = classes_of(denoiser, dataset, flags.data_root, data)
    return [classes.prompts[item.class_index] for item in data.items]


def _terms(
    flags: argparse.Namespace,
    denoiser: Denoiser,
    data: Dataset,
    prompts: list[str],
    how: Estimator,
) -> tuple[Float64, bool]:
    """(n, 4) terms of the images, chunk by chunk; and whether somebody stopped it."""
    import numpy as np
    import torch
    from tqdm import tqdm

    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.generation.likelihood import estimate

    found, stopped = [np.empty((0, 4))], False
    silent = True if flags.quiet else None
    with tqdm(total=len(data.items), desc="bounding", unit="img", disable=silent) as bar:
        try:
            for start in range(0, len(data.items), CHUNK):
                items = data.items[start : start + CHUNK]
                pixels = [to_pixels(load_image(i.open()), denoiser.image_size) for i in items]
                x0 = denoiser.encode_images(torch.from_numpy(np.stack(pixels)))
                asked = prompts if len(prompts) == 1 else prompts[start : start + CHUNK]
                cond = denoiser.encode_prompts(asked)
                ids = [item.image_id for item in items]
                found.append(estimate(denoiser, x0, ids, cond, how))
                bar.update(len(items))
        except KeyboardInterrupt:
            stopped = True
    return np.concatenate(found), stopped


def _say(
    flags: argparse.Namespace,
    denoiser: Denoiser,
    found: Bound,
    row: dict[str, Any],
    how: Estimator,
    stopped: bool,
) -> None:
    from diffcls.diffusion.bound import bits_per_dim

    shape = denoiser.sample_shape
    size = shape[0] * shape[1] * shape[2]
    terms = {
        "prior": found.prior,
        "steps": found.steps,
        "decoder": found.decoder,
    }
    bits = {name: bits_per_dim(nats, size) for name, nats in terms.items()}
    if flags.json:
        said = {**row, "terms": bits, "l_simple": found.simple, "variance": str(how.variance)}
        said["stderr"] = None if found.images < 2 else found.stderr
        print(json.dumps({**said, "status": "partial" if stopped else "complete"}, indent=2))
        return
    print(f"{row['model']} on {row['dataset']} ({row['split']}), {found.images:,} images")
    print(f"  L_T       {bits['prior']:9.4f}   the end of the chain, which no training changes")
    looked = f"{flags.levels} levels an image, {how.variance} variance"
    print(f"  sum L_t-1 {bits['steps']:9.4f}   {looked}")
    print(f"  L_0       {bits['decoder']:9.4f}   the decoder")
    spread = "" if found.images < 2 else f" ± {found.stderr:.4f}"
    print(f"  bound     {found.mean:9.4f}{spread} bits a dimension of {row['extractor']}")
    print(f"  L_simple  {found.simple:9.4f}   mean square of the noise's residual")
    if not _of_pixels(denoiser):
        print("  a density of latents, not of images: it compares with no other model's")
    if stopped:
        print("stopped: what there was until then; nothing was written")
    else:
        print(f"complete: {flags.output_dir}/fidelity.csv")


if __name__ == "__main__":
    sys.exit(main())
