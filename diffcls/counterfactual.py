"""``python -m diffcls.counterfactual``: what would have to change for another answer."""

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
from diffcls.cli.flags import add_one_image, add_seed, keywords
from diffcls.data.prompts import check_labels
from diffcls.editing.counterfactual_options import CounterfactualOptions
from diffcls.support.files import check_output, make_folder, safe_name, write_text
from diffcls.support.hashing import hash_text
from diffcls.support.options import read
from diffcls.support.paths import expand

if TYPE_CHECKING:
    from diffcls.editing.counterfactual import Counterfactual

EPILOG = """The image is edited from the label that it has now towards the other one, with growing
strength, until the classifier says the other label. Where both labels agree about the image, it
stays as it is.

OUTPUT_DIR/counterfactuals/IMAGE-SETTINGS.png        the counterfactual
OUTPUT_DIR/counterfactuals/IMAGE-SETTINGS-strip.png  the way, with the posterior at each step
OUTPUT_DIR/counterfactuals/IMAGE-SETTINGS.json       the same in numbers, and the settings

examples:
  python -m diffcls.counterfactual --image shoe.png --to boot --labels sneaker sandal boot
  python -m diffcls.counterfactual --image photo.jpg --model sd2-base --to dog --labels cat dog fox

exit status: 0 done, 1 no edit convinces the classifier, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `CounterfactualOptions` documents them."""
    p = parser_of(
        "counterfactual",
        "The smallest edit of an image after which the classifier says another label.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument
    add("--image", required=True, metavar="IMAGE", help="path or http(s):// address of an image")
    add("--to", dest="target", required=True, metavar="LABEL", help="the other label")
    add("--labels", nargs="+", required=True, metavar="L", help="all labels, two or more")
    model = "text-to-image model with a U-Net (fashion_mnist)"
    add("--model", metavar="NAME|PATH|ID", help=model)
    add("--template", metavar="T", help="prompt template with {} (a photo of a {}.)")
    add("--steps", type=int, metavar="N", help="levels of the path to noise and back (50)")
    add("--guidance", type=float, metavar="W", help="classifier-free guidance; 1 is none (2)")
    add_seed(add)
    add_one_image(add)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    options = read(CounterfactualOptions, keywords(flags, CounterfactualOptions))
    folder = expand(Path(flags.output_dir)) / "counterfactuals"
    check_output(folder)
    # refuses a missing file before a model is loaded
    opener(options.image, "--image", PUBLIC_ONLY)
    check_labels(options.labels)
    found, model = _found(options)
    facts = {**vars(options), "model": model, **summary(found)}
    content = hash_text(json.dumps(facts, default=str), 8)
    stem = safe_name(f"{Path(options.image).stem}-{content}")
    files = _write(found, folder, stem, facts)
    if flags.json:
        shown = {**facts, "files": [str(file) for file in files]}
        print(json.dumps(shown, indent=2, allow_nan=False))
    else:
        print("\n".join([*_lines(found), "", *map(str, files)]))
    return 0 if found.is_convincing else 1


def _found(options: CounterfactualOptions) -> tuple[Counterfactual, list[str]]:
    """The counterfactual, and name and revision of the model."""
    from diffcls.api.zero_shot import ZeroShotImageClassifier

    classifier = ZeroShotImageClassifier.from_pretrained(
        options.model,
        device=options.device,
        dtype=options.dtype,
        seed=options.seed,
        batch_size=options.batch_size,
        img_size=options.img_size,
    )
    found = classifier.counterfactual(
        options.image,
        options.target,
        options.labels,
        options.template,
        steps=options.steps,
        guidance=options.guidance,
    )
    card = classifier.denoiser.card
    return found, [card.name, card.revision]


def summary(found: Counterfactual) -> dict[str, Any]:
    """A counterfactual in plain JSON types."""
    return {
        "label": found.labels[found.label],
        "target": found.labels[found.target],
        "is_convincing": found.is_convincing,
        "strength": found.strength,
        "changed": found.changed,
        "steps_tried": [
            {
                "strength": step.strength,
                "posterior": dict(zip(found.labels, map(float, step.posterior), strict=True)),
            }
            for step in found.steps
        ],
    }


def _lines(found: Counterfactual) -> list[str]:
    label, target = found.labels[found.label], found.labels[found.target]
    lines = [f"strength  {label}  {target}"]
    for step in found.steps:
        before, after = step.posterior[found.label], step.posterior[found.target]
        lines.append(f"{step.strength:8g}  {before:{len(label)}.0%}  {after:{len(target)}.0%}")
    if found.is_convincing and not found.is_edited:
        lines.append(f"the model's decoding of the image alone makes the classifier say {target}: "
                     "nothing was edited")  # fmt: skip
    elif found.is_convincing:
        lines.append(f"the classifier says {target} at strength {found.strength:g}; "
                     f"{found.changed:.0%} of the pixels changed")  # fmt: skip
    else:
        lines.append(f"no edit convinces the classifier of {target}: try a larger --guidance")
    return lines


def _write(found: Counterfactual, folder: Path, stem: str, facts: dict[str, Any]) -> list[Path]:
    from diffcls.data.transforms import to_image
    from diffcls.editing.pictures import save

    make_folder(folder)
    files = [folder / f"{stem}{ending}" for ending in (".png", "-strip.png", ".json")]
    save(files[0], to_image(found.image))
    found.save(files[1])
    write_text(files[2], json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return files


if __name__ == "__main__":
    sys.exit(main())
