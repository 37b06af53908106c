"""``python -m diffcls.edit``: change what an image shows, by two prompts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.api.image_openers import opener
from diffcls.api.remote_images import PUBLIC_ONLY
from diffcls.cli import command, parser_of
from diffcls.cli.flags import add_one_image, keywords
from diffcls.editing.options import EditOptions
from diffcls.support.files import check_output, make_folder, safe_name, write_text
from diffcls.support.hashing import hash_text
from diffcls.support.options import read
from diffcls.support.paths import expand

if TYPE_CHECKING:
    from PIL import Image

    from diffcls.editing.edit import Edit

EPILOG = """The image is inverted to noise under the first prompt, and followed back under the
second with the attention maps of the first (Prompt-to-Prompt). Where both prompts agree about the
image, it stays as it is. With equal prompts nothing changes.

OUTPUT_DIR/edits/IMAGE-SETTINGS.png            the edited image
OUTPUT_DIR/edits/IMAGE-SETTINGS-strip.png      original and edit, side by side
OUTPUT_DIR/edits/IMAGE-SETTINGS-attention.png  where each word of both prompts is seen
OUTPUT_DIR/edits/IMAGE-SETTINGS.json           the settings

examples:
  python -m diffcls.edit --image scene.png --from "a large red square" --to "a large blue square"
  python -m diffcls.edit --image photo.jpg --model sd2-base --from "a cat" --to "a dog" --guidance 5

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `EditOptions` documents them."""
    p = parser_of(
        "edit",
        "Change what an image shows: one prompt describes it, another what it is to show.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument
    add("--image", required=True, metavar="IMAGE", help="path or http(s):// address of an image")
    add("--from", dest="source", required=True, metavar="TEXT", help="what the image shows")
    add("--to", dest="target", required=True, metavar="TEXT", help="what it is to show")
    add("--model", metavar="NAME|PATH|ID", help="text-to-image model with a U-Net (scenes)")
    add("--steps", type=int, metavar="N", help="levels of the path to noise and back (50)")
    strength = "share of the path that is edited; less keeps places and sizes (0.75)"
    add("--strength", type=float, metavar="S", help=strength)
    add("--guidance", type=float, metavar="W", help="classifier-free guidance; 1 is none (2)")
    shares = "share of the steps in which {} are kept, 0 to 1 ({})"
    words = shares.format("the attention maps of words that stay", 0.8)
    add("--keep-words", type=float, metavar="S", help=words)
    layout = shares.format("the relations of positions to one another", 0.5)
    add("--keep-layout", type=float, metavar="S", help=layout)
    weight = "factors of the attention to words of the second prompt"
    add("--weight", nargs="+", metavar="WORD=F", help=weight)
    surroundings = "keep the image where both prompts agree about it (on)"
    switch = argparse.BooleanOptionalAction
    add("--keep-surroundings", action=switch, help=surroundings)
    add_one_image(add, with_batch_size=False)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    options = read(EditOptions, keywords(flags, EditOptions))
    folder = expand(Path(flags.output_dir)) / "edits"
    check_output(folder)
    # refuses a missing file before a model is loaded
    image = opener(options.image, "--image", PUBLIC_ONLY)()
    edited, model = _edited(options, image)
    facts = {**_settings(options), "model": model}
    # another image, model or setting has another name: nothing is overwritten by other content
    content = hash_text(json.dumps([facts, edited.image.numpy().tobytes().hex()]), 8)
    stem = safe_name(f"{Path(options.image).stem}-{content}")
    files = _write(edited, folder, stem, {**facts, **_measured(edited)})
    if flags.json:
        shown = {**facts, **_measured(edited), "files": [str(file) for file in files]}
        print(json.dumps(shown, indent=2, allow_nan=False))
    else:
        print("\n".join(str(file) for file in files))
    return 0


def _edited(options: EditOptions, image: Image.Image) -> tuple[Edit, list[str]]:
    """The edit, and name and revision of the model."""
    import torch

    from diffcls.data.transforms import to_pixels
    from diffcls.editing.edit import edit
    from diffcls.models import given

    denoiser = given.load(options.model, options.device, options.dtype, options.img_size)
    pixels = torch.from_numpy(to_pixels(image, denoiser.image_size, denoiser.interpolation))
    result = edit(denoiser, pixels, options.source, options.target, options.settings())
    return result, [denoiser.card.name, denoiser.card.revision]


def _settings(options: EditOptions) -> dict[str, Any]:
    settings = {name: value for name, value in vars(options).items() if name != "weight"}
    return {**settings, "weights": dict(options.weights)}


def _measured(edited: Edit) -> dict[str, Any]:
    """Share of the latents that may have changed."""
    region = edited.region
    return {"changed_share": 1.0 if region is None else float(region.float().mean())}


def _write(edited: Edit, folder: Path, stem: str, facts: dict[str, Any]) -> list[Path]:
    from diffcls.data.transforms import to_image
    from diffcls.editing.pictures import attention, save, strip

    make_folder(folder)
    before, after = to_image(edited.reconstruction), to_image(edited.image)
    pictures = {
        "": after,
        "-strip": strip([before, after], ["original", "edit"]),
        "-attention": attention(edited),
    }
    files = []
    for ending, picture in pictures.items():
        files.append(folder / f"{stem}{ending}.png")
        save(files[-1], picture)
    files.append(folder / f"{stem}.json")
    write_text(files[-1], json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return files


if __name__ == "__main__":
    sys.exit(main())
