"""Weight files of a part: which variant is read, and that nothing but safetensors is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from diffcls.models.json_files import read_json
from diffcls.support.errors import ModelError

# diffusion_pytorch_model.safetensors, model.bf16.safetensors, model.fp16-00001-of-00002.safetensors
# and, as newer versions write it, model-00001-of-00002.fp16.safetensors
SHARD = r"(?:-\d+-of-\d+)?"
WEIGHTS = re.compile(
    rf"(?:diffusion_pytorch_model|model){SHARD}(?:\.(?P<variant>[\w-]+?))?{SHARD}\.safetensors"
)
HALVES = ("fp16", "bf16")
PREFERRED = {
    True: ("fp16", "bf16", "", "fp32"),  # in half precision
    False: ("", "fp32", "fp16", "bf16"),
}
"""Variants from the first choice to the last; the empty name stands for files without one."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
CONVERT = (
    "if you trust the files, convert them: DiffusionPipeline.from_pretrained(FOLDER, "
    "use_safetensors=False).save_pretrained(NEW_FOLDER)"
)


def variants_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Variant -> names of its weight files; the empty name stands for files without one."""
    by_variant: dict[str, list[str]] = {}
    for name in names:
        match = WEIGHTS.fullmatch(name)
        if match:
            by_variant.setdefault(match["variant"] or "", []).append(name)
    return by_variant


def choose_variant(folder: str, names: Iterable[str], half: bool, chosen: str | None = None) -> str:
    """The variant of a part's weights that is read.

    Args:
        folder: the part's folder, for messages.
        names: names of the files in it.
        half: whether the model runs in half precision.
        chosen: variant that goes before all others, in the parts that have it.

    Raises:
        ModelError: for a folder without safetensors, or with several variants of which none is
            known.
    """
    names = sorted(names)
    variants = variants_of(names)
    for variant in PREFERRED[half] if chosen is None else (chosen, *PREFERRED[half]):
        if variant in variants:
            return variant
    if len(variants) == 1:
        return next(iter(variants))
    if variants:
        raise ModelError(
            f"several variants of the weights in {folder}, and none without a name",
            given=", ".join(sorted(variants)),
            todo="keep the files of one of them",
        )
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        raise ModelError(
            "weights of the model are pickles, which are never opened: they may run code",
            given=f"{folder}/{pickles[0]}",
            allowed="safetensors",
            todo=CONVERT,
        )
    raise ModelError(
        "a part of the model has no weights",
        given=folder,
        allowed="diffusion_pytorch_model.safetensors or model.safetensors",
    )


def check_shards(folder: Path) -> None:
    """Check the indexes of sharded weights: every shard is a safetensors file of the folder.

    Raises:
        ModelError: for another file.
    """
    for path in sorted(folder.glob("*.index*.json")):
        shards = read_json(path).get("weight_map")
        if not isinstance(shards, dict):
            raise ModelError("an index of weights has no weight_map", given=str(path))
        for shard in shards.values():
            known = isinstance(shard, str) and WEIGHTS.fullmatch(shard)
            if not known or not (folder / shard).is_file():
                raise ModelError(
                    f"a shard in {path} is not a safetensors file of its folder", given=shard
                )
