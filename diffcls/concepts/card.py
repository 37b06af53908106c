"""Card of a learned concept: ``concept.json`` and its README."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.support.environment import clock, describe_device, versions
from diffcls.training.run_files import read_curve

if TYPE_CHECKING:
    from diffcls.concepts.options import ConceptOptions
    from diffcls.concepts.task import Learned
    from diffcls.models.denoiser import Denoiser


def card_of(
    options: ConceptOptions, plan: dict[str, Any], learned: Learned, denoiser: Denoiser, work: Path
) -> dict[str, Any]:
    """The card of a concept.

    Args:
        options: of the command.
        plan: what decides the result: settings, model, images.
        learned: the result.
        denoiser: the model.
        work: folder of the curves.
    """
    phases = options.kind().phases_of(options)
    curves = {name: work / f"{name}-curve.jsonl" for name in phases}
    return {
        **plan,
        "phrase": learned.phrase,
        "file": learned.file,
        "encoders": list(learned.vectors),
        "summary": options.kind().summary,
        "command": options.command,
        "seconds": round(learned.seconds, 1),
        "device": describe_device(str(denoiser.device)),
        "versions": versions(),
        "date": clock(),
        "phases": phases,
        "curves": {name: read_curve(path) for name, path in curves.items() if path.exists()},
    }


def phases_in_words(phases: Mapping[str, Mapping[str, int]]) -> str:
    """Length of each phase, such as ``textual: 400 steps of 16 images``."""
    parts = []
    for name, phase in phases.items():
        draws = f" with {phase['draws']} draws each" if phase["draws"] > 1 else ""
        images = f"{phase['images']} image{'' if phase['images'] == 1 else 's'}"
        parts.append(f"{name}: {phase['steps']:,} steps of {images}{draws}")
    return "; ".join(parts)


def readme(card: dict[str, Any]) -> str:
    """README of a concept, from its card."""
    count, model = card["images"]["count"], card["model"]
    name, phrase = card["name"], card["phrase"]
    load = (
        "pipeline.load_lora_weights(FOLDER)"
        if "lora" in card["file"]
        else "pipeline.load_textual_inversion(FOLDER)"
    )
    if len(card["encoders"]) > 1:
        load = TWO_ENCODERS.format(token=name)
    start = f", started from `{card['init']}`" if card["init"] else ""
    return f"""---
library_name: diffusers
tags: [{"lora" if "lora" in card["file"] else "textual_inversion"}]
base_model: {model["name"]}
---
# {name}: a concept learned from {count} images

Learned by {card["summary"]}{start}, for {model["name"]}, revision `{model["revision"]}`, with

    {card["command"]}

Seed {card["seed"]}, learning rate {card["learning_rate"]:g}, {card["seconds"]:g} s on
{card["device"]}, {card["versions"]}; {phases_in_words(card["phases"])}. All settings and the hashes
of the images are in `concept.json`.

A classifier with this concept is **few-shot**, with {count} images:

    python -m diffcls.evaluate --model {model["name"]} --concept FOLDER

In diffusers, a prompt with `{phrase}` shows the concept:

```python
{load}
pipeline("a photo of a {phrase}").images[0]
```
"""


TWO_ENCODERS = """from safetensors.torch import load_file

vectors = load_file("FOLDER/learned_embeds.safetensors")
pipeline.load_textual_inversion(
    vectors["clip_l"], "{token}", text_encoder=pipeline.text_encoder, tokenizer=pipeline.tokenizer
)
pipeline.load_textual_inversion(
    vectors["clip_g"], "{token}", text_encoder=pipeline.text_encoder_2,
    tokenizer=pipeline.tokenizer_2,
)"""
