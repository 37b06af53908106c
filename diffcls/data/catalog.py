"""Every data set the harness knows: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diffcls.support.errors import unknown_name


@dataclass(frozen=True)
class Stages:
    """The published stages of a data set: samples and classes kept, and the loss.

    Source: Li et al. 2023, the commands published with the paper.
    """

    samples: tuple[int, ...]
    keep: tuple[int, ...]
    loss: str = "l2"


@dataclass(frozen=True)
class Repository:
    """Where a data set lies on the Hugging Face Hub.

    Args:
        id: ``owner/name``.
        revision: branch, tag or commit; empty: the newest.
        splits: our name of a split -> theirs, where they differ.
        image, label: columns.
        gated: whether a person must accept terms and log in.
        names: a file of the repository with one class name a line, where the label column has none.
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
    """One data set.

    Args:
        name: full name, as in the leaderboard.
        model: default model.
        clip: default model of the method clip.
        templates: default prompts, one ``{}`` each.
        source: ``"module:function"`` that makes a data set of its own; None: `layout` and `hub`.
        layout: ``"module:function"`` that reads the set as its makers or torchvision lay it out.
        hub: where the Hub has it.
        stages: of the `paper` search.
        splits: names of the splits.
        validation: images of the training split that are its ``validation``, the data having none;
            of a partial copy, a fifth at most.
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


@dataclass(frozen=True)
class Query:
    """Which images are wanted, and where to look for them: what every source is asked with.

    Args:
        spec: the data set's row.
        split: name of the split.
        root: where local data lie; None: not given.
        image_column, label_column: of tables; None: found by their names and types.
    """

    spec: DatasetSpec
    split: str
    root: Path | None = None
    image_column: str | None = None
    label_column: str | None = None


LABELLED_SPLITS = ("test", "validation", "train")
# the published stages of Food-101, for sets of about a hundred classes
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

# the published script's names
ALIASES: Mapping[str, str] = {
    "food": "food101",
    "flowers": "flowers102",
    "aircraft": "fgvc_aircraft",
}


@dataclass(frozen=True)
class Kind:
    """Data sets of one kind, KIND:PLACE.

    Args:
        what: what PLACE is.
        source: who reads it.
        model, clip, template: defaults, as of `DatasetSpec`.
    """

    what: str
    source: str
    model: str = ""
    clip: str = "RN50/openai"
    template: str = "a photo of a {}."


# data of a person's own, and sets of as many classes as a person wants
KINDS: Mapping[str, Kind] = {
    "folder": Kind("PATH", "diffcls.data.sources.folder:load"),
    "parquet": Kind("PATH", "diffcls.data.sources.parquet:load"),
    "hf": Kind("ID", "diffcls.data.sources.hub:load"),
    "scenes": Kind(
        "N",
        "diffcls.data.scenes.many_classes:load",
        "scenes",
        "clip-scenes",
        "a picture of {}.",
    ),
}


def find(name: str) -> DatasetSpec:
    """The row of a data set, or one made for ``folder:PATH``, ``parquet:PATH`` or ``hf:ID``.

    Raises:
        UsageError: for an unknown name, with the allowed ones and a "did you mean".
    """
    kind, _, place = name.partition(":")
    if kind in KINDS and place:
        row = KINDS[kind]
        return DatasetSpec(
            name=f"{kind}:{Path(place).name if row.what == 'PATH' else place}",
            model=row.model,
            templates=(row.template,),
            clip=row.clip,
            source=row.source,
            hub=_repository(place) if kind == "hf" else None,
            splits=(),
        )
    name = ALIASES.get(name, name)
    if name not in SPECS:
        kinds = (f"{kind}:{row.what}" for kind, row in KINDS.items())
        raise unknown_name("dataset", name, [*SPECS, *kinds])
    return SPECS[name]


def _repository(place: str) -> Repository:
    repo_id, _, revision = place.partition("@")
    return Repository(repo_id, revision)
