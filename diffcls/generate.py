"""``python -m diffcls.generate``: images from prompts, with any sampler and guidance."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.cli import check_least, command, parser_of
from diffcls.cli.flags import add_machine, add_output, add_source, opened
from diffcls.generation.classes import Guide
from diffcls.generation.samplers import SAMPLERS
from diffcls.support.errors import DataError, UsageError, unknown_name
from diffcls.support.hashing import hash_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.generation.classes import Classes
    from diffcls.generation.samplers import Predict
    from diffcls.models.denoiser import Denoiser

EPILOG = """The pictures lie in OUTPUT_DIR/MODEL-KEY, KEY a hash of all that makes them: one file an
image, grid.png, and samples.json, which says how to make them again. An image depends on its seed
and its number alone.

examples:
  python -m diffcls.generate                          a few of each of the model's classes
  python -m diffcls.generate --model scenes --prompt "two red circles" "a blue square"
  python -m diffcls.generate --class 7 --count 8 --trajectory
  python -m diffcls.generate --class 7 --guide diffusion --guide-weight 2
  python -m diffcls.generate --interpolate one.png other.png

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""

MOST_CLASSES = 10
"""Classes that are drawn where none was named."""


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = parser_of(
        "generate",
        "Draw images with a diffusion model.",
        EPILOG,
    )
    add = p.add_argument_group("what is drawn").add_argument
    add_source(add, "digits")
    add("--prompt", nargs="+", metavar="TEXT", help="sentences, for a model that reads them")
    add("--class", nargs="+", dest="classes", metavar="NAME", help="classes of the data set")
    add("--count", type=int, default=4, metavar="N", help="images of each (4)")
    add("--interpolate", nargs=2, metavar="IMAGE", help="the way between two images, instead")
    add = p.add_argument_group("how").add_argument
    add(
        "--guidance", type=float, metavar="W", help="classifier-free (2; with --guide 0: no prompt)"
    )
    add("--guide", metavar="G", help="a further one: classifier, clip or diffusion")
    add("--guide-weight", type=float, default=1.0, metavar="W", help="of its gradient (1)")
    add("--guide-model", metavar="NAME|PATH", help="of the guide (the data set's own)")
    add("--sampler", default="dpm++", metavar="S", help="see --list-samplers (dpm++)")
    add("--steps", type=int, default=25, metavar="N", help="of the sampler (25)")
    add("--seed", type=int, default=0, metavar="N", help="keys all noise (0)")
    add("--trajectory", action="store_true", help="also the way to each image: a strip and a film")
    add("--dtype", default="auto", metavar="T", help="float32, bfloat16 or float16")
    add_machine(add, 32)
    add = add_output(p, "samples", "the one folder written to")
    add("--list-samplers", action="store_true", help="say what samplers there are, and stop")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    if flags.list_samplers:
        print("\n".join(f"{name:11} {one.says}" for name, one in SAMPLERS.items()))
        return 0
    _check(flags)

    with opened(flags, flags.dtype) as denoiser:
        work = _interpolation if flags.interpolate else _samples
        said = work(flags, denoiser)
    stopped = said["status"] == "partial"
    if flags.json:
        print(json.dumps(said, indent=2))
    else:
        of_all = f" of {said['asked']}" if stopped else ""
        print(f"{'stopped: ' * stopped}{said['images']}{of_all} images in {said['folder']}")
    return 130 if stopped else 0


def _check(flags: argparse.Namespace) -> None:
    """Refuse what can be refused before a model is opened."""
    check_least(flags, count=1, steps=1, batch_size=1)
    if flags.guidance is not None and not 0 <= flags.guidance < math.inf:
        raise UsageError("--guidance out of range", flags.guidance, "0 or more, finite")
    asked = [name for name in ("prompt", "classes", "interpolate") if getattr(flags, name)]
    if len(asked) > 1:
        raise UsageError("more than one thing is asked for", asked, "one of them")
    if flags.sampler not in SAMPLERS:
        raise unknown_name("sampler", flags.sampler, SAMPLERS)
    if flags.guide is None and flags.guide_model is not None:
        raise UsageError("--guide-model without --guide", flags.guide_model)
    if flags.guide is not None:
        Guide(flags.guide, flags.guide_weight)
        if flags.interpolate:
            raise UsageError("the way between two images is led by nothing", given="--guide")
        if flags.guide in ("classifier", "diffusion") and flags.prompt:
            raise UsageError("the guide leads to a class", flags.guide, todo="use --class NAME")
    if flags.guide is None and flags.guide_weight != 1.0:
        raise UsageError("--guide-weight without --guide", flags.guide_weight)
    if flags.interpolate:
        _check_interpolation(flags)


def _check_interpolation(flags: argparse.Namespace) -> None:
    """The way between two images is DDIM's, there and back, without any noise or prompt."""
    given = {
        "--guidance": flags.guidance is not None,
        "--sampler": flags.sampler != "dpm++",
        "--seed": flags.seed != 0,
        "--trajectory": flags.trajectory,
    }
    useless = " ".join(flag for flag, is_given in given.items() if is_given)
    if useless:
        what = "the way between two images has no such option"
        raise UsageError(what, given=useless, todo="leave it out")
    for name in ("steps", "count"):
        if getattr(flags, name) < 2:
            allowed = "2 or more, with --interpolate"
            raise UsageError(f"--{name} out of range", getattr(flags, name), allowed)
    for path in flags.interpolate:
        if not Path(path).is_file():
            raise DataError("no such image", given=path)


@dataclass
class _Asked:
    """The images that are asked for: one entry each."""

    labels: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)


def _asked(flags: argparse.Namespace, denoiser: Denoiser, classes: Classes | None) -> _Asked:
    """Prompt, label and class of each image, the images of one prompt in a row."""
    asked = _Asked()
    if flags.prompt:
        if denoiser.labels is not None:
            raise UsageError("the model reads no texts", given="--prompt", todo="use --class NAME")
        lines = [(text, text, text, -1) for text in flags.prompt]
    elif classes is None:
        if flags.classes:
            raise UsageError(
                "an unconditional model takes no class",
                "--class",
                todo="lead it: --guide classifier",
            )
        lines = [("unconditional", "", "", -1)]
    else:
        wanted = [classes.index(name) for name in flags.classes or classes.names[:MOST_CLASSES]]
        lines = [(classes.names[k], classes.prompts[k], classes.texts[k], k) for k in wanted]
    for label, prompt, text, k in lines:
        asked.labels += [label] * flags.count
        asked.prompts += [prompt] * flags.count
        asked.texts += [text] * flags.count
        asked.classes += [k] * flags.count
    return asked


def _samples(flags: argparse.Namespace, denoiser: Denoiser) -> dict[str, Any]:
    """Draw, and write image by image, so that what there is is kept when it is stopped."""
    from tqdm import tqdm

    from diffcls.generation.classes import classes_of, dataset_of, lead_by
    from diffcls.generation.gallery import Shelf
    from diffcls.generation.image_grid import to_bytes
    from diffcls.generation.sample import sample

    classes = None
    if flags.guide or not (flags.prompt or denoiser.labels == ()):
        classes = classes_of(denoiser, dataset_of(denoiser, flags.dataset), flags.data_root)
    asked, lead = _asked(flags, denoiser, classes), None
    guidance = flags.guidance
    if guidance is None:
        guidance = 0.0 if flags.guide else 2.0
    if denoiser.labels == ():
        guidance = 1.0  # there is no prompt to be guided by
    if flags.guide and classes is not None:
        guide = Guide(flags.guide, flags.guide_weight, flags.guide_model)
        lead = lead_by(guide, denoiser, classes, asked.classes, asked.texts)
    settings = {
        "model": denoiser.card.name,
        "revision": denoiser.card.revision,
        "dtype": str(denoiser.dtype).removeprefix("torch."),
        "prompts": asked.prompts,
        "guidance": guidance,
        "guide": flags.guide,
        "guided_to": asked.texts if flags.guide else None,
        "guide_dataset": classes.dataset if flags.guide and classes else None,
        "guide_weight": flags.guide_weight if flags.guide else None,
        "guide_model": flags.guide_model,
        "sampler": flags.sampler,
        "steps": flags.steps,
        "seed": flags.seed,
    }
    batches = sample(
        denoiser,
        asked.prompts,
        range(len(asked.prompts)),
        seed=flags.seed,
        scale=guidance,
        steps=flags.steps,
        batch_size=min(flags.batch_size, len(asked.prompts)),
        sampler=flags.sampler,
        lead=lead,
        trajectory=flags.trajectory,
    )
    shelf = Shelf(Path(flags.output_dir), settings, asked.labels)
    silent = True if flags.quiet else None
    try:
        with tqdm(total=len(asked.prompts), desc="drawing", unit="img", disable=silent) as bar:
            for batch in batches:
                shelf.put(to_bytes(batch.images), [to_bytes(t) for t in batch.trajectory])
                bar.update(len(batch.images))
    except KeyboardInterrupt:
        if not shelf.images:
            raise
    finally:
        shelf.close()
    return shelf.said()


def _interpolation(flags: argparse.Namespace, denoiser: Denoiser) -> dict[str, Any]:
    """From one image to another through their noises."""
    import torch

    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.generation import samplers
    from diffcls.generation.gallery import Shelf
    from diffcls.generation.guidance import guided
    from diffcls.generation.image_grid import to_bytes

    count = flags.count
    with torch.inference_mode():
        pixels = [to_pixels(load_image(path), denoiser.image_size) for path in flags.interpolate]
        x0 = denoiser.encode_images(torch.stack([torch.from_numpy(one) for one in pixels]))
        schedule = denoiser.schedule
        down = samplers.path_of(schedule, flags.steps)

        def without(rows: int) -> Predict:
            empty = denoiser.encode_prompts([""])
            return guided(denoiser, empty, empty, 0.0)

        start = float(schedule.alpha[0]) * x0
        noises = samplers.move(schedule, without(2), start, down[::-1])
        between: list[Tensor] = [
            samplers.slerp(noises[:1], noises[1:], i / (count - 1)) for i in range(count)
        ]
        x_t = samplers.move(schedule, without(count), torch.cat(between), down)
        images = denoiser.decode_latents(x_t / float(schedule.alpha[0])).clamp(-1, 1).cpu()
    settings = {
        "model": denoiser.card.name,
        "revision": denoiser.card.revision,
        "dtype": str(denoiser.dtype).removeprefix("torch."),
        "between": [hash_bytes(one.tobytes()) for one in pixels],
        "count": count,
        "steps": flags.steps,
    }
    shelf = Shelf(Path(flags.output_dir), settings, ["from one image to the other"] * count)
    try:
        shelf.put(to_bytes(images), [])
    finally:
        shelf.close()
    return shelf.said()


if __name__ == "__main__":
    sys.exit(main())
