"""Hashes of the bundled models' training data: ``python -m tools.hash_benchmarks --data-root DIR``.

Writes diffcls/assets/seen/NAME.bin, by which copies of a benchmark are recognised, see
`diffcls.data.seen_images`. The files depend on the data alone. Images that the local copy lacks are
not recognised.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from diffcls.cli import Parser, command
from diffcls.data.dataset import Dataset

BENCHMARKS = ("digits", "fashion_mnist", "cifar10", "scenes")
SCENE_TASKS = ("scenes/attributes", "scenes/relations", "scenes/counting", "scenes/pairs")
"""Scene benchmarks whose combinations the model of scenes was trained on."""
MAX_HASHES = 20_000
"""Hashed images per benchmark: all validation and test images, and a sample of the rest."""


def main(argv: list[str] | None = None) -> int:
    """Write the file of each benchmark."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="tools.hash_benchmarks", description=__doc__.splitlines()[0])
    p.add_argument("benchmarks", nargs="*", metavar="NAME", help="benchmarks (all)")
    p.add_argument("--data-root", metavar="DIR", help="folder of local data sets")
    flags = p.parse_args(arguments)

    from diffcls.data.seen_images import ASSETS, collect
    from diffcls.support.files import make_folder, write_bytes

    make_folder(ASSETS)
    for name in flags.benchmarks or BENCHMARKS:
        train, others = splits_of(name, flags.data_root)
        items = [item for data in others for item in data.items]
        seen = collect(train.items, names_of(name, [train, *others]), MAX_HASHES, items)
        write_bytes(ASSETS / f"{name}.bin", seen.to_bytes())
        print(f"{name}: {len(seen.images)} of {seen.total} images, {len(seen.names)} names")
    return 0


def splits_of(name: str, data_root: str | None) -> tuple[Dataset, list[Dataset]]:
    """Training split, and the splits of which every image is hashed."""
    from diffcls.data.load import load_dataset

    train = load_dataset(name, "train", data_root)
    tested = SCENE_TASKS if name == "scenes" else (name,)
    splits = [(task, split) for task in tested for split in ("test", "validation")]
    return train, [load_dataset(task, split, data_root) for task, split in splits]


def names_of(name: str, data: Iterable[Dataset]) -> list[str]:
    """Names of the classes that occur in the data, and those of the training captions."""
    from diffcls.data.training_captions import CIFAR10_NAMES, DIGIT_NAMES, FASHION_NAMES

    tables = {"digits": DIGIT_NAMES, "fashion_mnist": FASHION_NAMES, "cifar10": CIFAR10_NAMES}
    shown = {one.class_names[item.class_index] for one in data for item in one.items}
    captions = {word for names in tables.get(name, ()) for word in names}
    return sorted(shown | captions)


if __name__ == "__main__":
    sys.exit(main())
