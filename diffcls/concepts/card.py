"""Card of a learned concept: ``concept.json`` and its README."""

from __future__ import annotations

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
    curves = sorted(work.glob("*-curve.jsonl"))
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
        "curves": {path.name.removesuffix("-curve.jsonl"): read_curve(path) for path in curves},
    }


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

Seed {card["seed"]}, {card["images_seen"]:,} images seen in batches of {card["batch"]}, learning
rate {card["learning_rate"]:g}, {card["seconds"]:g} s on {card["device"]}, {card["versions"]}. All
settings and the hashes of the images are in `concept.json`.

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
