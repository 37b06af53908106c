"""A folder of images with a captions table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SENTENCES = [f"a {shade} square, number {i}" for i, shade in enumerate(["dark", "light"] * 12)]


def images(folder: Path, count: int = 24) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i in range(count):
        name = f"{i:02d}.png"
        Image.fromarray(np.full((16, 16, 3), 40 + 9 * i, dtype=np.uint8)).save(folder / name)
        names.append(name)
    return names


def captions(folder: Path, kind: str = "csv") -> Path:
    rows = list(zip(images(folder), SENTENCES, strict=True))
    if kind == "csv":
        text = "file_name,text\n" + "".join(f'{name},"{said}"\n' for name, said in rows)
    else:
        text = "\n".join(json.dumps({"file_name": name, "text": said}) for name, said in rows)
    (folder / f"metadata.{kind}").write_text(text, encoding="utf-8")
    return folder
