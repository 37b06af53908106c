"""Specification of a run: the settings that define its numbers, and its fingerprint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffcls.diffusion.parameterization import stored_weighting
from diffcls.support.hashing import canonical_json, hash_json

SCORING_VERSION = 2
"""Part of every fingerprint; increased whenever a change to the code changes numbers."""

ADDED_LATER = (
    *("interpolation", "aggregate", "vote", "allocation", "rejection", "text_defaults"),
    *("quantize", "vae_tiling", "class_prior", "control"),
)
"""Fields that are left out of the fingerprint at their defaults."""


@dataclass(frozen=True)
class RunSpec:
    """The settings that define a run's numbers, and no others.

    Device, workers and paths are not part of it; nor are batch shape and threads, which affect only
    the last bits: they are in the run's header.

    Args:
        dataset, data_revision, split, subset: the images; `subset` is ``all``, or the rule of the
            choice with a hash of the chosen image ids.
        class_names, prompts, class_of: see `diffcls.data.prompts.PromptSet`.
        model, model_revision: the weights.
        method: one of the methods' names.
        search, search_options: the search and all its options, defaults filled in.
        img_size: side of the images, in pixels.
        loss, weighting, seed, dtype: as the flags of the same name.
        noise: hash of a noise file, or empty.
        scoring_version: see `SCORING_VERSION`.
        interpolation, aggregate, vote, allocation: as the flags of the same name. They were added
            later: at their defaults they are not part of the fingerprint, so older runs keep
            theirs.
        rejection: of ``--reject``: background prompt, withheld labels and calibration images, as
            JSON; added later, too.
        text_defaults: what the model's pipeline adds to every prompt, see
            `diffcls.models.text_defaults`, as JSON; added later, too.
        quantize: ``PARTS:BITS:LIBRARY`` of quantised weights, or empty; added later, too.
        vae_tiling: whether images are encoded tile by tile; added later, too.
        class_prior: of ``--class-bias`` and ``--combine``: what the fit depends on, as JSON; added
            later, too.
        control: of ``--control``: kind of the map, ControlNet and its revision, and a hash of the
            given maps, as JSON; added later, too.
    """

    dataset: str
    data_revision: str
    split: str
    subset: str
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    class_of: tuple[int, ...]
    model: str
    model_revision: str
    method: str
    search: str
    search_options: Mapping[str, Any]
    img_size: int
    loss: str
    weighting: str
    seed: int
    dtype: str
    noise: str = ""
    scoring_version: int = SCORING_VERSION
    interpolation: str = "bicubic"
    aggregate: str = "classes"
    vote: str = "mean"
    allocation: str = "even"
    rejection: str = ""
    text_defaults: str = ""
    quantize: str = ""
    vae_tiling: bool = False
    class_prior: str = ""
    control: str = ""

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunSpec:
        """The specification that `as_dict` stored.

        Raises:
            ValueError: for fields that this version of diffcls does not have, or lacks.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if other := sorted(set(plain) - known):
            raise ValueError(f"its specification has {', '.join(other)}")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()
        }
        try:
            spec = cls(**values)
            same = spec.as_dict() == dict(plain)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"its specification cannot be read ({error})") from error
        if not same:
            raise ValueError("its specification is written in another way")
        return spec

    def as_dict(self) -> dict[str, Any]:
        """The spec in plain JSON types."""
        plain: dict[str, Any] = json.loads(
            canonical_json({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        )
        plain["weighting"] = stored_weighting(self.weighting)
        for name in ADDED_LATER:
            if plain[name] == type(self).__dataclass_fields__[name].default:
                del plain[name]
        return plain

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: the start of the SHA-256 of the canonical JSON."""
        return hash_json(self.as_dict())
