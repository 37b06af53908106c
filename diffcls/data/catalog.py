"""Catalog of data sets: one row per data set, with its sources, prompts and default models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diffcls.support.errors import unknown_name


@dataclass(frozen=True)
class Stages:
    """Stages of the published search on a data set (``--search paper``).

    Args:
        samples: draws per class after each stage.
        keep: classes kept after each stage.
        loss: name of the loss of the published command.

    Source: Li et al. 2023, the commands published with the paper.
    """

    samples: tuple[int, ...]
    keep: tuple[int, ...]
    loss: str = "l2"


@dataclass(frozen=True)
class Repository:
    """A repository of the Hugging Face Hub that holds a data set.

    Args:
        id: ``owner/name``.
        revision: branch, tag or commit; empty for the newest.
        splits: our name of a split -> the repository's, where they differ.
        image, label: names of the columns.
        gated: whether access requires a login and accepted terms.
        names: file of the repository with one class name per line, if the label column has none.
    """

    id: str
    revision: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    image: str = "image"
    label: str = "label"
    gated: bool = False
    names: str | None = None


@dataclass(frozen=True)
class DatasetSpec:
    """Specification of a data set, one row of the catalog.

    Args:
        name: full name, as in the leaderboard.
        model: default model.
        templates: default prompt templates, each with one ``{}``.
        source: ``"module:function"`` that loads the set; None for sets read by `layout` or `hub`.
        layout: ``"module:function"`` that reads the set's original layout, or torchvision's.
        hub: its repository on the Hub.
        stages: stages of the published search.
        splits: names of the splits; empty where any name is allowed.
        validation: number of images held out of ``train`` as ``validation``, for sets without such
            a split; at most a fifth of a partial copy.
        clip: default model of ``--method clip``.
        own: whether it is a person's own data, rather than a built-in data set.
    """

    name: str
    model: str
    templates: tuple[str, ...]
    source: str | None = None
    layout: str | None = None
    hub: Repository | None = None
    stages: Stages = Stages((50, 500), (5, 1))
    splits: tuple[str, ...] = ("test", "validation", "train")
    validation: int = 0
    clip: str = "RN50/openai"
    own: bool = False


@dataclass(frozen=True)
class Query:
    """Request for the images of a split, the argument of every source.

    Args:
        spec: the data set's row.
        split: name of the split.
        root: folder or file of local data; None if not given.
        image_column, label_column: columns of tables; None to detect them by name and type.
    """

    spec: DatasetSpec
    split: str
    root: Path | None = None
    image_column: str | None = None
    label_column: str | None = None


LABELLED_SPLITS = ("test", "validation", "train")
# the published stages of Food-101, used for sets of about a hundred classes
HUNDRED_CLASSES = Stages((20, 50, 100, 500), (20, 10, 5, 1))

SPECS: Mapping[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="digits",
            model="digits",
            clip="clip-digits",
            templates=("a photo of a handwritten digit {}.",),
            source="diffcls.data.sources.digits:load",
        ),
        DatasetSpec(
            name="fashion_mnist",
            model="fashion_mnist",
            clip="clip-fashion_mnist",
            templates=("a photo of a {}.",),
            layout="diffcls.data.layouts.fashion_mnist:load",
            hub=Repository("zalando-datasets/fashion_mnist"),
            validation=1000,
        ),
        DatasetSpec(
            name="cifar10",
            model="cifar10",
            clip="clip-cifar10",
            templates=("a blurry photo of a {}.",),
            layout="diffcls.data.layouts.cifar10:load",
            hub=Repository("uoft-cs/cifar10", image="img"),
            stages=Stages((50, 500), (5, 1), "l1"),
            validation=1000,
        ),
        *(
            DatasetSpec(
                name=name,
                model="scenes",
                clip="clip-scenes",
                templates=("a picture of {}.",),
                source="diffcls.data.scenes.tasks:load",
                stages=stages,
                splits=splits,
            )
            for name, splits, stages in (
                ("scenes", ("train", "validation"), Stages((50, 500), (5, 1))),
                ("scenes/attributes", LABELLED_SPLITS, HUNDRED_CLASSES),
                ("scenes/held-out", LABELLED_SPLITS, HUNDRED_CLASSES),
                ("scenes/relations", LABELLED_SPLITS, Stages((50, 500), (5, 1))),
                ("scenes/counting", LABELLED_SPLITS, Stages((50, 500), (5, 1))),
                ("scenes/pairs", ("test", "validation"), Stages((500,), (1,))),
            )
        ),
        DatasetSpec(
            name="stl10",
            model="sd2-base",
            templates=("a photo of a {}.",),
            layout="diffcls.data.layouts.stl10:load",
            hub=Repository("tanganke/stl10"),
            stages=Stages((100, 500), (5, 1), "l1"),
            validation=500,
        ),
        DatasetSpec(
            name="pets",
            model="sd2-base",
            templates=("a photo of a {}, a type of pet.",),
            layout="diffcls.data.layouts.pets:load",
            hub=Repository("timm/oxford-iiit-pet"),
            stages=Stages((25, 250), (5, 1), "l1"),
            validation=370,
        ),
        DatasetSpec(
            name="food101",
            model="sd2-base",
            templates=("a photo of {}, a type of food.",),
            layout="diffcls.data.layouts.food101:load",
            hub=Repository("ethz/food101", splits={"test": "validation"}),
            stages=Stages((20, 50, 100, 500), (20, 10, 5, 1)),
            validation=2020,
        ),
        DatasetSpec(
            name="flowers102",
            model="sd2-base",
            templates=("a photo of a {}, a type of flower.",),
            layout="diffcls.data.layouts.flowers102:load",
            hub=Repository("dpdl-benchmark/oxford_flowers102"),
            stages=Stages((20, 50, 100, 500), (20, 10, 5, 1), "l1"),
        ),
        DatasetSpec(
            name="fgvc_aircraft",
            model="sd2-base",
            templates=("a photo of a {}, a type of aircraft.",),
            layout="diffcls.data.layouts.fgvc_aircraft:load",
            hub=Repository(
                "clip-benchmark/wds_fgvc_aircraft",
                image="webp",
                label="cls",
                names="classnames.txt",
            ),
            stages=Stages((20, 50, 100, 500), (20, 10, 5, 1)),
            validation=500,
        ),
        DatasetSpec(
            name="imagenet",
            model="sd2-base",
            templates=("a photo of a {}.",),
            layout="diffcls.data.layouts.imagenet:load",
            hub=Repository("ILSVRC/imagenet-1k", splits={"test": "validation"}, gated=True),
            stages=Stages((50, 100, 500, 1000), (500, 50, 10, 1)),
            splits=("test", "train"),
        ),
        DatasetSpec(
            name="objectnet",
            model="sd2-base",
            templates=("a photo of a {}.",),
            layout="diffcls.data.layouts.objectnet:load",
            hub=Repository(
                "clip-benchmark/wds_objectnet", image="webp", label="cls", names="classnames.txt"
            ),
            stages=Stages((50, 100, 500, 1000), (25, 10, 5, 1)),
            splits=("test",),
        ),
    )
}

# names of the published script
ALIASES: Mapping[str, str] = {
    "food": "food101",
    "flowers": "flowers102",
    "aircraft": "fgvc_aircraft",
}


@dataclass(frozen=True)
class Prefix:
    """Data sets named ``PREFIX:ARGUMENT``, such as ``folder:PATH``.

    Args:
        argument: placeholder of the argument in messages.
        source: ``"module:function"`` that loads the set.
        model, clip, template: defaults, as in `DatasetSpec`.
        own: whether it is a person's own data.
    """

    argument: str
    source: str
    model: str = ""
    clip: str = "RN50/openai"
    template: str = "a photo of a {}."
    own: bool = True


# the user's own data, and scenes of any number of classes
PREFIXES: Mapping[str, Prefix] = {
    "folder": Prefix("PATH", "diffcls.data.sources.folder:load"),
    "parquet": Prefix("PATH", "diffcls.data.sources.parquet:load"),
    "hf": Prefix("ID", "diffcls.data.sources.hub:load"),
    "scenes": Prefix(
        "N",
        "diffcls.data.scenes.many_classes:load",
        "scenes",
        "clip-scenes",
        "a picture of {}.",
        own=False,
    ),
}


def find(name: str) -> DatasetSpec:
    """The specification of a data set by name, or of ``folder:PATH``, ``parquet:PATH``, ``hf:ID``.

    Raises:
        UsageError: for an unknown name, with the allowed ones and a "did you mean".
    """
    prefix, _, argument = name.partition(":")
    if prefix in PREFIXES and argument:
        row = PREFIXES[prefix]
        return DatasetSpec(
            name=f"{prefix}:{Path(argument).name if row.argument == 'PATH' else argument}",
            model=row.model,
            templates=(row.template,),
            clip=row.clip,
            source=row.source,
            hub=_repository(argument) if prefix == "hf" else None,
            splits=(),
            own=row.own,
        )
    name = ALIASES.get(name, name)
    if name not in SPECS:
        prefixed = (f"{prefix}:{row.argument}" for prefix, row in PREFIXES.items())
        raise unknown_name("dataset", name, [*SPECS, *prefixed])
    return SPECS[name]


def _repository(argument: str) -> Repository:
    repo_id, _, revision = argument.partition("@")
    return Repository(repo_id, revision)
