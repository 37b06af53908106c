"""Use of options: which of an evaluation's options its methods, search and data set read.

Each method declares what it reads in its row, `diffcls.classifiers.base.MethodKind.reads`; each
source of data in `diffcls.data.option_use.READS`. Everything else is read by every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diffcls.classifiers import METHODS
from diffcls.classifiers.base import MethodKind
from diffcls.classifiers.model_options import METHODS_WITHOUT_DENOISER
from diffcls.classifiers.options import ClassifierOptions
from diffcls.classifiers.search_options import search_name
from diffcls.data import catalog
from diffcls.data.option_use import LOCAL_OPTIONS, unused_by
from diffcls.models.model_argument import is_name

RUN_OPTIONS = frozenset(
    {"dataset", "split", "limit", "subset", "indices", "classnames", "method", "seed"}
    | {"device", "batch_size", "threads", "shard", "n_workers", "worker_idx", "check_model"}
    | {"executor", "workers", "address"}
    | {"log_to", "json_format", "read_timeout"}
    | {"output_dir", "dry_run", "json", "quiet", "published", "extra", "load_stats", "command"}
)
"""Options that every run reads, whatever its method."""
SEARCH_READS: Mapping[str, frozenset[str]] = {
    "propose": frozenset({"clip_model"}),
    "learned": frozenset({"fit_folder", "fit"}),
}
"""Options of another method that a search reads, too; its own are the fields of its class."""
COMBINATION_READS = frozenset({"clip_model"})
"""Options of another method that ``--combine`` reads, too."""


def readers() -> dict[str, tuple[str, ...]]:
    """Each option that some methods or searches read -> these, as flags."""
    table: dict[str, tuple[str, ...]] = {}
    for name in METHODS:
        for option in _kind(name).reads:
            table[option] = (*table.get(option, ()), f"--method {name}")
    for name, options in SEARCH_READS.items():
        for option in options:
            table[option] = (*table.get(option, ()), f"--search {name}")
    for option in COMBINATION_READS:
        table[option] = (*table.get(option, ()), "--combine clip")
    return table


def unused(options: ClassifierOptions) -> dict[str, str]:
    """Each option that has no effect on an evaluation -> why.

    Raises:
        UsageError: for an unknown method, search or data set.
    """
    spec = catalog.find(options.dataset)
    read = frozenset[str]().union(*(_kind(name).reads for name in options.method))
    if "search" in read:
        read |= SEARCH_READS.get(search_name(options), frozenset())
    if "combine" in read and options.combine is not None:
        read |= COMBINATION_READS
    reasons = {
        option: f"has no effect here, it is of {' and '.join(names)}"
        for option, names in readers().items()
        if option not in read
    }
    return {**reasons, **_second_model(options), **unused_by(spec)}


def _second_model(options: ClassifierOptions) -> dict[str, str]:
    """``model`` where it would name the model of a method that has one from another flag."""
    methods: Sequence[str] = options.method
    if options.model is None or not METHODS_WITHOUT_DENOISER.issuperset(methods):
        return {}
    if len(methods) > 1:
        return {
            "model": "does not say of which method; use --clip-model, --backbone and --reference"
        }
    if not is_name(options.model):
        return {"model": f"is a pipeline in memory, and --method {methods[0]} runs none"}
    other = {"clip": "clip_model", "features": "backbone", "reference": "reference"}[methods[0]]
    if getattr(options, other) is None:
        return {}
    return {"model": f"and --{other.replace('_', '-')} name the same model twice"}


def _kind(name: str) -> MethodKind:
    kind: MethodKind = METHODS.load(name)
    return kind


DECLARED = RUN_OPTIONS | LOCAL_OPTIONS
"""Options declared outside the rows of methods."""
