"""Model cards: the README of each kind of trained model, from its ``diffcls.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffcls.data.dataset import Dataset
from diffcls.data.dataset_facts import terms_of
from diffcls.training.validation import CURVE_DRAWS, CURVE_IMAGES


def text_to_image_readme(card: dict[str, Any]) -> str:
    """README of a small latent text-to-image model."""
    recipe, data, name = card["recipe"], card["data"], card["name"]
    licence = left_out(data) + terms(data)
    seen = ", ".join(card["trained_on"])
    # the oldest cards do not contain the command, but its arguments
    plain = f"python -m diffcls.train --dataset {name} --seed {card['seed']}"
    command = card.get("command", plain)
    measured = f"{CURVE_IMAGES} validation images, at most {CURVE_DRAWS} draws"
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
license: apache-2.0
---
# {name}: a small text-to-image diffusion model

A `StableDiffusionPipeline` of {recipe["config"]["image_size"]} px, trained from scratch by
`{command}`.

**Trained on the training split of {name}, with its labels in words.** As a classifier of {seen} it
is therefore not zero-shot.

- Data: {data["images"]:,} images of {name}, split `{data["split"]}`, revision `{data["revision"]}`.
{licence}- Recipe: {recipe["images"]:,} images seen in batches of {recipe["batch"]}, learning rate
  {recipe["learning_rate"]:g}, {recipe["copies"]} augmented copies of each image, prompt dropout
  {recipe["prompt_dropout"]:g}, EMA {recipe["ema"]:g}, `{recipe["config"]["prediction_type"]}`; all
  of it in `diffcls.json`.
{fine_tuned_from(card)}- Seed {card["seed"]}, {card["hours"]:.2f} hours on {card["device"]},
  {card["versions"]}.
- Validation accuracy {card["validation_accuracy"]:.1%} on {card["measured_on"]} with racing;
  temperature of the posterior {card["temperature"]:g}, fitted on the validation images. Timestep
  allocation of the draws: learned on `{card["allocation"]}`.

{curve_table(card["curve"], measured)}
"""


def clip_readme(card: dict[str, Any]) -> str:
    """README of a small CLIP model."""
    recipe, data, name = card["recipe"], card["data"], card["name"]
    licence = left_out(data) + terms(data)
    return f"""---
library_name: open_clip
pipeline_tag: zero-shot-image-classification
license: apache-2.0
---
# {name}: a small CLIP

Trained from scratch by `{card["command"]}`
on the images and captions that the diffusion model `{card["measured_on"]}` was trained on.
open_clip loads it: `open_clip.create_model_and_transforms("local-dir:FOLDER")`.

**Trained on {", ".join(card["trained_on"])}**: as a classifier of these it is not zero-shot.

- Data: {data["images"]:,} images of {card["measured_on"]}, revision `{data["revision"]}`.
{licence}- Recipe: {recipe["images"]:,} images seen in batches of {recipe["batch"]}, learning rate
  {recipe["learning_rate"]:g}, EMA {recipe["ema"]:g}; all of it in `diffcls.json`.
{fine_tuned_from(card)}- Seed {card["seed"]}, {card["hours"]:.2f} hours on {card["device"]},
  {card["versions"]}.
- Validation accuracy {card["validation_accuracy"]:.1%} on {card["measured_on"]}.

{curve_table(card["curve"], "all validation images")}
"""


def pixel_readme(card: dict[str, Any]) -> str:
    """README of a small pixel-space diffusion model."""
    recipe, data, name = card["recipe"], card["data"], card["name"]
    licence = terms(data)
    kind = "class-conditional" if recipe["conditional"] else "unconditional"
    return f"""---
library_name: diffusers
pipeline_tag: unconditional-image-generation
license: apache-2.0
---
# {name}: a small pixel-space diffusion model

A `DDPMPipeline` of {recipe["image_size"]} px and {recipe["channels"]} channels, trained by
`{card["command"]}`;
{kind}.

**Trained on the training split of {card["measured_on"]}**: on that data set it is not zero-shot.

- Data: {data["images"]:,} images, revision `{data["revision"]}`.
{licence}- Recipe: {recipe["images"]:,} images seen in batches of {recipe["batch"]}, learning rate
  {recipe["learning_rate"]:g}, EMA {recipe["ema"]:g}, `{recipe["prediction_type"]}`, schedule
  `{recipe["noise_schedule"]}`; all of it in `diffcls.json`.
{fine_tuned_from(card)}- Seed {card["seed"]}, {card["hours"]:.2f} hours on {card["device"]},
  {card["versions"]}.

{curve_table(card["curve"], "")}
"""


def noisy_readme(card: dict[str, Any]) -> str:
    """README of a classifier of noisy images."""
    recipe, data = card["recipe"], card["data"]
    licence = terms(data)
    levels = ", ".join(f"{value:.1%}" for value in card["validation_accuracy_by_noise"])
    return f"""---
license: apache-2.0
---
# {card["name"]}: a classifier of noisy images

Trained by `{card["command"]}`
at the noise levels of `{card["trained_with"]}`, for classifier guidance of its samples.

- Data: {data["images"]:,} labelled images of {card["measured_on"]}, revision `{data["revision"]}`.
{licence}- Recipe: {recipe["images"]:,} images seen in batches of {recipe["batch"]}; all of it in
  `diffcls.json`.
{fine_tuned_from(card)}- Seed {card["seed"]}, {card["hours"]:.2f} hours on {card["device"]},
  {card["versions"]}.
- Validation accuracy from the least noisy fifth of the levels to the noisiest: {levels}.

{curve_table(card["curve"], "mean over the fifths of the noise levels")}
"""


def instruct_readme(card: dict[str, Any]) -> str:
    """README of an instruction editor."""
    recipe, data, name = card["recipe"], card["data"], card["name"]
    instruction, image, both = recipe["dropped"]
    return f"""---
library_name: diffusers
pipeline_tag: image-to-image
license: apache-2.0
---
# {name}: a small instruction editor

A `StableDiffusionInstructPix2PixPipeline` of {recipe["image_size"]} px (Brooks et al. 2023),
trained by `{card["command"]}`.
It edits images as a sentence says, and classifies none:
`{EXAMPLE.format(name)}`

- Data: {recipe["pairs"]:,} pairs of images, before and after a change of colour, shape or size, or
  an object that comes or goes; revision `{data["revision"]}`. None shows a held-out combination.
{terms(data)}- Recipe: {recipe["images"]:,} pairs seen in batches of {recipe["batch"]}, learning
  rate {recipe["learning_rate"]:g}, EMA {recipe["ema"]:g}; {instruction:.0%} of the examples lose
  their instruction, {image:.0%} their image and {both:.0%} both; all of it in `diffcls.json`.
{fine_tuned_from(card)}- Seed {card["seed"]}, {card["hours"]:.2f} hours on {card["device"]},
  {card["versions"]}.

{curve_table(card["curve"], "")}
"""


def control_readme(card: dict[str, Any]) -> str:
    """README of a ControlNet."""
    recipe, data, name = card["recipe"], card["data"], card["name"]
    licence = terms(data)
    return f"""---
library_name: diffusers
license: apache-2.0
---
# {name}: a ControlNet of edges

A `ControlNetModel` that steers `{card["trained_with"]}`, revision
`{card["trained_with_revision"]}`, by `{recipe["control"]}` edges; trained by
`{card["command"]}`. The steered model stayed as it was.

**Trained on {", ".join(card["trained_on"])}**: as a classifier of these it is not zero-shot.

- Data: {data["images"]:,} images, split `{data["split"]}`, revision
  `{data["revision"]}`.
{licence}- Recipe: {recipe["images"]:,} images seen in batches of {recipe["batch"]}, learning rate
  {recipe["learning_rate"]:g}, prompt dropout {recipe["prompt_dropout"]:g}, EMA {recipe["ema"]:g};
  all of it in `diffcls.json`.
{fine_tuned_from(card)}- Seed {card["seed"]}, {card["hours"]:.2f} hours on {card["device"]},
  {card["versions"]}.

{curve_table(card["curve"], "")}
"""


EXAMPLE = 'python -m diffcls.edit --model {} --image FILE --instruction "make the square blue"'


def data_facts(data: Dataset, without: Sequence[str] = ()) -> dict[str, Any]:
    """Entry ``data`` of a card: the training images, with their licence and authors.

    Args:
        data: the training split.
        without: names of the classes that were left out of it.
    """
    facts: dict[str, Any] = {"split": "train", "images": len(data), "revision": data.revision}
    if without:
        facts["without"] = list(without)
    return {**facts, **terms_of(data.name)}


def left_out(data: dict[str, Any]) -> str:
    """Line of the README on classes that the model has never seen; empty without any."""
    if not data.get("without"):
        return ""
    return f"- Without the classes {', '.join(data['without'])}, in training and validation.\n"


def terms(data: dict[str, Any]) -> str:
    """Line of the README on the licence of the training data, other than that of the weights."""
    credit = f" ({data['credit']})" if data.get("credit") else ""
    return f"- Licence of the data: {data.get('licence') or 'not known'}{credit}.\n"


def fine_tuned_from(card: dict[str, Any]) -> str:
    """Line of the README on the fine-tuned model; empty for a training from scratch."""
    before = card.get("continued_from")
    if not before:
        return ""
    return (
        f"- Fine-tuned from `{before['name']}`, revision `{before['revision']}`, trained on "
        f"{before['images']:,} images in {before['hours']:.2f} hours.\n"
    )


def curve_table(curve: list[dict[str, float]], measured: str) -> str:
    """Training curve as a Markdown table.

    Args:
        curve: points of one phase, see `diffcls.training.run_files.read_curve`.
        measured: words for the column's heading: the images or levels of the accuracy.
    """
    columns = {
        "images": ("images seen", "{:,.0f}"),
        "loss": ("training loss", "{:.4f}"),
        "validation_loss": ("validation loss with the edges", "{:.4f}"),
        "plain_validation_loss": ("of the model alone", "{:.4f}"),
        "validation_accuracy": (f"accuracy, {measured}", "{:.1%}"),
    }
    shown = [name for name in columns if all(name in point for point in curve)]
    lines = [[columns[name][0] for name in shown], ["---"] * len(shown)]
    lines += [[columns[name][1].format(point[name]) for name in shown] for point in curve]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
