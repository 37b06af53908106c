"""Calibration of the bundled models' cards: ``python -m tools.recalibrate_cards``.

Measures the temperature of the posterior (temperature scaling) and the validation accuracy again
and writes them into diffcls/assets/weights. Both belong to the default settings of the evaluate
command, so run this when the defaults change. All other entries of a card stay as they are.
"""

from __future__ import annotations

import json
import sys

from diffcls.cli import Parser, command


def main(argv: list[str] | None = None) -> int:
    """Rewrite ``diffcls.json`` and README.md of each bundled diffusion model."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="tools.recalibrate_cards", description=__doc__.splitlines()[0])
    p.add_argument("models", nargs="*", metavar="MODEL", help="bundled models (all)")
    p.add_argument("--data-root", metavar="DIR", help="folder of local data sets")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    flags = p.parse_args(arguments)

    from diffcls.classifiers.validation import validators
    from diffcls.models.json_files import read_json
    from diffcls.models.loading import CARD, WEIGHTS, bundled, load
    from diffcls.support.environment import set_threads
    from diffcls.support.files import write_text
    from diffcls.training.latent_diffusion import calibrate
    from diffcls.training.model_card import text_to_image_readme
    from diffcls.training.recipe_table import RECIPES
    from tools.bundled_recipes import row_of

    set_threads(flags.threads)
    for name in flags.models or [name for name in bundled() if name in RECIPES]:
        folder = WEIGHTS / name
        recipe = RECIPES[row_of(name)]
        benchmark = recipe.measured_on or name
        validate = validators(benchmark, flags.data_root).finished
        measured = calibrate(load(name), recipe, validate)
        card = {"measured_on": benchmark, **read_json(folder / CARD), **measured}
        card["recipe"] = {**card["recipe"], "allocation": recipe.allocation}
        readme = text_to_image_readme(card)
        write_text(folder / CARD, json.dumps(card, indent=2, allow_nan=False) + "\n")
        write_text(folder / "README.md", readme)
        print(f"{name}: validation {card['validation_accuracy']:.1%}, {card['temperature']:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
