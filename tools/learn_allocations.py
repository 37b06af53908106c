"""Timestep allocations learned on validation images: ``python -m tools.learn_allocations``.

Writes diffcls/assets/allocations/NAME.json for each recipe NAME whose bundled model provides some
model's allocation; a model's allocation is never learned on its own data set
(`diffcls.training.recipes.Recipe.allocation`). Allocations of recipes whose models are no longer
bundled stay as they are. An allocation is learned from error tables on even draws.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from diffcls.cli import Parser, command
from diffcls.data.option_use import root_for
from diffcls.diffusion.timestep_allocation import EVEN, FOLDER
from diffcls.evaluation.replay import learn
from diffcls.training.recipe_table import RECIPES
from tools.bundled_recipes import row_of

IMAGES, DRAWS = 400, 50
TABLES = "results/reference/tables"


def file_for(dataset: str) -> str:
    """Path of the allocation of a data set's model, learned on another data set."""
    return str(FOLDER / f"{RECIPES[row_of(dataset.partition('/')[0])].allocation}.json")


def main(argv: list[str] | None = None) -> int:
    """Learn all allocations; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="tools.learn_allocations", description=__doc__.splitlines()[0])
    p.add_argument(
        "--output-dir",
        default=TABLES,
        metavar="DIR",
        help=f"folder of the error tables ({TABLES})",
    )
    p.add_argument("--data-root", metavar="DIR", help="folder of local data sets")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    flags = p.parse_args(arguments)

    from diffcls.evaluation.run import run_evaluation

    for name in sorted({recipe.allocation for recipe in RECIPES.values()}):
        dataset = name.partition("-")[0]
        if name != row_of(dataset):
            print(f"{name}: kept; the bundled {dataset} is by the recipe {row_of(dataset)}")
            continue
        tables = Path(flags.output_dir) / f"{dataset}-validation-{IMAGES}-{DRAWS}"
        run_evaluation(
            dataset=dataset,
            split="validation",
            data_root=root_for(dataset, flags.data_root),
            limit=IMAGES,
            search="exhaustive",
            draws=DRAWS,
            allocation=EVEN,
            save_errors=str(tables),
            output_dir=flags.output_dir,
            threads=flags.threads,
            command="python -m tools.learn_allocations",
        )
        path = FOLDER / f"{name}.json"
        path.write_text(json.dumps(learn(tables), indent=2) + "\n", encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
