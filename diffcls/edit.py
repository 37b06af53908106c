"""``python -m diffcls.edit``: change what an image shows, by two prompts or an instruction."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.api.image_openers import opener
from diffcls.api.remote_images import PUBLIC_ONLY
from diffcls.cli import command, parser_of
from diffcls.cli.edit_flags import add_edit_flags
from diffcls.cli.flags import keywords
from diffcls.editing.options import EditOptions, InstructOptions
from diffcls.support.errors import UsageError
from diffcls.support.files import check_output
from diffcls.support.options import read
from diffcls.support.paths import expand

if TYPE_CHECKING:
    from PIL import Image

    from diffcls.editing.edit import Edit
    from diffcls.editing.instruct import InstructedEdit

Options = EditOptions | InstructOptions

EPILOG = """--from and --to: the image is inverted to noise under the first prompt, and followed
back under the second with the attention maps of the first (Prompt-to-Prompt). Where both prompts
agree about the image, it stays as it is. With equal prompts nothing changes.

--instruction: a model that was trained on instructions (InstructPix2Pix) samples the edited image,
guided by the image and by the instruction.

OUTPUT_DIR/edits/IMAGE-SETTINGS.png            the edited image
OUTPUT_DIR/edits/IMAGE-SETTINGS-strip.png      original and edit, side by side
OUTPUT_DIR/edits/IMAGE-SETTINGS-attention.png  where each word of the prompts is seen
OUTPUT_DIR/edits/IMAGE-SETTINGS.json           the settings

examples:
  python -m diffcls.edit --image scene.png --from "a large red square" --to "a large blue square"
  python -m diffcls.edit --image photo.jpg --model sd2-base --from "a cat" --to "a dog" --guidance 5
  python -m diffcls.edit --image scene.png --instruction "make the red square blue"
  python -m diffcls.edit --image photo.jpg --model timbrooks/instruct-pix2pix \\
    --instruction "make it snow" --guidance 7.5

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = parser_of(
        "edit",
        "Change what an image shows, by a prompt that describes it and one of what it is to show, "
        "or by an instruction.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add_edit_flags(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    options = _options(flags)
    folder = expand(Path(flags.output_dir)) / "edits"
    check_output(folder)
    # refuses a missing file before a model is loaded
    image = opener(options.image, "--image", PUBLIC_ONLY)()
    edited, model = _edited(options, image)

    from diffcls.editing.files import measured, write_edit

    facts = {**_settings(options), "model": model}
    files = write_edit(edited, folder, Path(options.image).stem, facts)
    if flags.json:
        shown = {**facts, **measured(edited), "files": [str(file) for file in files]}
        print(json.dumps(shown, indent=2, allow_nan=False))
    else:
        print("\n".join(str(file) for file in files))
    return 0


def _options(flags: argparse.Namespace) -> Options:
    """The options of the way that was chosen.

    Raises:
        UsageError: for flags of both ways, or too few of either.
    """
    given = vars(flags)
    own: type[Options] = InstructOptions if "instruction" in given else EditOptions
    other = EditOptions if own is InstructOptions else InstructOptions
    fields, others = ({f.name for f in dataclasses.fields(kind)} for kind in (own, other))
    foreign = " and ".join(_flag(name) for name in given if name in others - fields)
    if foreign:
        way = "cannot be combined with" if own is InstructOptions else "cannot be used without"
        raise UsageError(
            f"{foreign} {way} --instruction", todo="give either --from and --to, or --instruction"
        )
    if own is EditOptions and not {"source", "target"} <= given.keys():
        raise UsageError("an edit needs --from and --to, or --instruction")
    return read(own, keywords(flags, own))


def _flag(name: str) -> str:
    """The flag of a field."""
    flags = {"source": "from", "target": "to"}
    return f"--{flags.get(name, name).replace('_', '-')}"


def _edited(options: Options, image: Image.Image) -> tuple[Edit | InstructedEdit, list[str]]:
    """The edit, and name and revision of the model."""
    import torch

    from diffcls.data.transforms import to_pixels
    from diffcls.editing.edit import edit
    from diffcls.editing.instruct import instruct
    from diffcls.models import given

    editor = isinstance(options, InstructOptions)
    denoiser = given.load(
        options.model, options.device, options.dtype, options.img_size, editor=editor
    )
    pixels = torch.from_numpy(to_pixels(image, denoiser.image_size, denoiser.interpolation))
    result: Edit | InstructedEdit
    if isinstance(options, InstructOptions):
        result = instruct(denoiser, pixels, options.instruction, options.settings())
    else:
        result = edit(denoiser, pixels, options.source, options.target, options.settings())
    return result, [denoiser.card.name, denoiser.card.revision]


def _settings(options: Options) -> dict[str, Any]:
    settings = {name: value for name, value in vars(options).items() if name != "weight"}
    if isinstance(options, EditOptions):
        settings["weights"] = dict(options.weights)
    return settings


if __name__ == "__main__":
    sys.exit(main())
