"""Files of an edit: pictures and settings, named by their content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffcls.data.transforms import to_image
from diffcls.editing.change_region import changed_pixels
from diffcls.editing.edit import Edit
from diffcls.editing.instruct import InstructedEdit
from diffcls.editing.pictures import attention, save, strip
from diffcls.support.files import make_folder, safe_name, write_text
from diffcls.support.hashing import hash_text


def measured(edited: Edit | InstructedEdit) -> dict[str, float]:
    """How much changed: the share of the latents that may have, or of the pixels that have."""
    if isinstance(edited, InstructedEdit):
        changed = changed_pixels(edited.image, edited.reconstruction)
        return {"changed_pixels": float(changed.float().mean())}
    region = edited.region
    return {"changed_share": 1.0 if region is None else float(region.float().mean())}


def write_edit(
    edited: Edit | InstructedEdit, folder: Path, name: str, facts: dict[str, Any]
) -> list[Path]:
    """Write the pictures of an edit and its settings.

    Another image, model or setting has another name: nothing is overwritten by other content.

    Args:
        edited: the edit.
        folder: where to write; it is made.
        name: first part of the files' names.
        facts: the settings, in JSON types.

    Returns:
        The files, the edited image first and the settings last.
    """
    content = hash_text(json.dumps([facts, edited.image.numpy().tobytes().hex()]), 8)
    stem = safe_name(f"{name}-{content}")
    make_folder(folder)
    before, after = to_image(edited.reconstruction), to_image(edited.image)
    pictures = {"": after, "-strip": strip([before, after], ["original", "edit"])}
    if isinstance(edited, Edit):
        pictures["-attention"] = attention(edited)
    files = []
    for ending, picture in pictures.items():
        files.append(folder / f"{stem}{ending}.png")
        save(files[-1], picture)
    files.append(folder / f"{stem}.json")
    text = json.dumps({**facts, **measured(edited)}, indent=2, allow_nan=False)
    write_text(files[-1], text + "\n")
    return files
