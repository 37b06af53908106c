"""Inputs of bad command lines: damaged, empty and strange files, as people have them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

TEXTS = {
    "bad.csv": "prompt,classidx\nhi,0\nho,zzz\n",
    "bad2.csv": "foo,bar\n1,2\n",
    "huge.csv": "prompt,classidx\nhi,999999999999\n",
    "neg.csv": "prompt,classidx\nhi,-1\n",
    "nul.csv": "prompt,classidx\nh\0i,0\n",
    "quote.csv": 'prompt,classidx\n"hi,0\n',
    "readonly.csv": "x",
    "empty.json": "",
    "empty.txt": "",
    "list.json": "[1,2]",
    "nan.json": '{"learned_on":"x","knots":"nan=nan"}',
    "w_bad.json": '{"learned_on":"x","knots":"1=2,1=3"}',
    "w_int.json": '{"learned_on":"x","knots":5}',
    "learnout.json": json.dumps({"learned_on": "digits/validation", "knots": "-1=0,0=0.1,1=0"}),
    "deep.json": "[" * 100_000,
    "idx_dup": "1\n1\n",
    "idx_float": "1.5\n",
    "idx_huge": "9" * 5000 + "\n",
    "idx_neg": "-1\n",
    "model_bad/model_index.json": "{",
    "model_list/model_index.json": "[]",
    "model_nop/model_index.json": '{"_class_name":"StableDiffusionPipeline"}',
    "model_unk/model_index.json": '{"_class_name":"Evil"}',
    "tabout/leaderboard.csv": "fingerprint,dataset\n",
}
GARBAGE = {"bin": 4096, "csv": 300, "json": 200, "npy": 100, "parquet": 300, "pt": 500}


def write_inputs(folder: Path) -> None:
    """Write all inputs below a folder; ``tables``, saved error tables, are the only sound ones."""
    from diffcls.evaluation.run import run_evaluation

    for name, text in TEXTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "readonly.csv").chmod(0)
    random = np.random.default_rng(0)
    for suffix, size in {**GARBAGE, "safetensors": 500}.items():
        (folder / f"garbage.{suffix}").write_bytes(random.bytes(size))
    np.save(folder / "float.npy", np.array([1.5]))
    np.save(folder / "obj.npy", np.array([{}]), allow_pickle=True)
    for name in ("emptydir", "model_empty", "looproot/a", "photos/a", "photos/b"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "looproot" / "a" / "x.png")
    for i in range(6):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / "ab"[i % 2] / f"{i // 2}.png")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to("no-such-file")
    os.mkfifo(folder / "fifo")
    with tempfile.TemporaryDirectory() as scored:  # the folder above holds the inputs alone
        run_evaluation(
            split="validation",
            limit=6,
            search="exhaustive",
            draws=10,
            threads=1,
            quiet=True,
            check_model=False,
            save_errors=str(folder / "tables"),
            output_dir=scored,
        )
