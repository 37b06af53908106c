"""Payloads: models, LoRAs and archives that would each create a marker file, were they run."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

Payload = Callable[["Place"], Any]
"""Writes its files, and returns what opens them: a call without arguments."""


class Evil:
    """Object whose unpickling creates the marker file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.marker)!r}, 'w').close()",)


class Place:
    """Folder of one payload: copies of a pipeline and of a CLIP, and the marker beside them."""

    def __init__(self, folder: Path, pipeline: Path, clip: Path) -> None:
        self.folder, self.marker = folder, folder / "marker"
        self._pipeline, self._clip = pipeline, clip

    def pipeline(self) -> Path:
        return Path(shutil.copytree(self._pipeline, self.folder / "pipeline"))

    def clip(self) -> Path:
        return Path(shutil.copytree(self._clip, self.folder / "clip"))

    def code(self, folder: Path, name: str = "payload.py") -> None:
        """A module that creates the marker when it is imported, with a class of each kind."""
        lines = [f"open({str(self.marker)!r}, 'w').close()", "import transformers"]
        for kind in ("PreTrainedModel", "PreTrainedTokenizer", "PretrainedConfig"):
            lines += [f"class Evil{kind}(transformers.{kind}):", "    pass"]
        lines += ["class EvilConfig(transformers.PretrainedConfig):", "    model_type = 'evil'"]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def pickled(self) -> bytes:
        return pickle.dumps({"weight": Evil(self.marker)})

    def zipped(self) -> bytes:
        """The same in the format of `torch.save`."""
        buffer = io.BytesIO()
        torch.save({"weight": Evil(self.marker)}, buffer)
        return buffer.getvalue()


def rewrite(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file; a new file has nothing else."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**stored, **changes}), encoding="utf-8")


def open_model(folder: Path | str, **options: Any) -> Callable[[], Any]:
    from diffcls.models import loading

    return lambda: loading.load(str(folder), **options)


def open_clip_model(name: Path | str) -> Callable[[], Any]:
    from diffcls.models import clip

    return lambda: clip.load(str(name))


# ---- classes that load code of a model ----------------------------------------------------------

AUTO_MAP = {
    "AutoConfig": "payload.EvilConfig",
    "AutoModel": "payload.EvilPreTrainedModel",
    "AutoTokenizer": ["payload.EvilPreTrainedTokenizer", None],
    "AutoProcessor": "payload.EvilPreTrainedModel",
    "AutoFeatureExtractor": "payload.EvilPreTrainedModel",
    "AutoImageProcessor": "payload.EvilPreTrainedModel",
    "AutoModelForCausalLM": "payload.EvilPreTrainedModel",
}


def with_auto_map(folder: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        rewrite(folder / name, auto_map=AUTO_MAP, model_type="evil")
    rewrite(folder / "processor_config.json", auto_map=AUTO_MAP)


def auto_class(name: str) -> Payload:
    def write(place: Place) -> Any:
        folder = place.pipeline()
        part = "tokenizer" if "Tokenizer" in name else "text_encoder"
        rewrite(folder / "model_index.json", **{part: ["transformers", name]})
        with_auto_map(folder / part)
        place.code(folder / part)
        return open_model(folder)

    return write


def part_of(library: str, name: str, part: str = "unet") -> Payload:
    def write(place: Place) -> Any:
        folder = place.pipeline()
        rewrite(folder / "model_index.json", **{part: [library, name]})
        (folder / part).mkdir(exist_ok=True)
        for below in (folder, folder / part):
            for module in ("payload.py", "pipeline.py", "modular_pipeline.py", "__init__.py"):
                place.code(below, module)
        rewrite(folder / part / "model_index.json", _class_name=["pipeline", "EvilConfig"])
        rewrite(
            folder / part / "modular_model_index.json",
            auto_map={"ModularPipelineBlocks": "payload.EvilConfig"},
        )
        rewrite(folder / part / "config.json", auto_map={"AutoModel": "payload.EvilConfig"})
        return open_model(folder)

    return write


def index_entry(**changes: Any) -> Payload:
    def write(place: Place) -> Any:
        folder = place.pipeline()
        rewrite(folder / "model_index.json", **changes)
        for module in ("payload.py", "pipeline.py"):
            place.code(folder, module)
        return open_model(folder)

    return write


def config_entry(file: str, **changes: Any) -> Payload:
    def write(place: Place) -> Any:
        folder = place.pipeline()
        rewrite(folder / file, **changes)
        place.code((folder / file).parent)
        return open_model(folder)

    return write


def adapter_of_another_place(place: Place) -> Any:
    folder = place.pipeline()
    with_auto_map(place.folder)
    place.code(place.folder)
    (place.folder / "pytorch_model.bin").write_bytes(place.zipped())
    adapter = {"base_model_name_or_path": str(place.folder), "peft_type": "LORA"}
    rewrite(folder / "text_encoder/adapter_config.json", **adapter)
    return open_model(folder)


# ---- pickles ------------------------------------------------------------------------------------

WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "pytorch_model",
}


def weights_bin(part: str, beside: bool, name: str = "") -> Payload:
    def write(place: Place) -> Any:
        folder = place.pipeline()
        for path in (folder / part).glob("*.safetensors"):
            if not beside:
                path.unlink()
        (folder / part / (name or f"{WEIGHTS[part]}.bin")).write_bytes(place.zipped())
        return open_model(folder)

    return write


def false_safetensors(part: str, zipped: bool) -> Payload:
    def write(place: Place) -> Any:
        folder = place.pipeline()
        (path,) = (folder / part).glob("*.safetensors")
        path.write_bytes(place.zipped() if zipped else place.pickled())
        return open_model(folder)

    return write


def shard_bin(part: str, outside: bool = False) -> Payload:
    """An index of shards that names a pickle."""

    def write(place: Place) -> Any:
        folder = place.pipeline()
        (path,) = (folder / part).glob("*.safetensors")
        names = list(load_file(path))
        path.unlink()
        shard = "../../weights.bin" if outside else "weights.bin"
        (folder / part / shard).resolve().write_bytes(place.zipped())
        rewrite(
            path.with_name(path.name + ".index.json"),
            metadata={"total_size": 1},
            weight_map=dict.fromkeys(names, shard),
        )
        return open_model(folder)

    return write


def single_file(name: str, zipped: bool = True) -> Payload:
    def write(place: Place) -> Any:
        path = place.folder / name
        path.write_bytes(place.zipped() if zipped else place.pickled())
        return open_model(path)

    return write


def file_completed_by_pickles(place: Place) -> Any:
    folder = place.pipeline()
    (folder / "text_encoder/model.safetensors").unlink()
    (folder / "text_encoder/pytorch_model.bin").write_bytes(place.zipped())
    path = place.folder / "mine.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, path)
    return open_model(path, model_config=str(folder))


def lora(name: str, zipped: bool = True) -> Payload:
    def write(place: Place) -> Any:
        path = place.folder / name
        path.write_bytes(place.zipped() if zipped else place.pickled())
        return open_model(place.pipeline(), lora=str(path))

    return write


def noise(name: str, zipped: bool) -> Payload:
    def write(place: Place) -> Any:
        from diffcls.scoring.noise_bank import load_noise

        path = place.folder / name
        path.write_bytes(place.zipped() if zipped else place.pickled())
        return lambda: load_noise(path, (4, 8, 8))

    return write


def cifar10(file: str) -> Payload:
    def write(place: Place) -> Any:
        from diffcls.data.load import load_dataset

        folder = place.folder / "cifar-10-batches-py"
        folder.mkdir()
        batch = {"data": np.zeros((1, 3072), np.uint8), "labels": [0]}
        for name in ("test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
            (folder / name).write_bytes(pickle.dumps(batch))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
        (folder / file).write_bytes(place.pickled())
        return lambda: load_dataset("cifar10", root=place.folder)

    return write


def archive(kind: str) -> Payload:
    """A cached fit with an array of objects, or that is a pickle itself."""

    def write(place: Place) -> Any:
        from diffcls.support.cache import read_arrays

        path = place.folder / "probe-0123.npz"
        array = np.array([Evil(place.marker)], dtype=object)
        if kind == "archive":
            np.savez(path, weights=array, allow_pickle=True)
        elif kind == "array":
            with path.open("wb") as file:
                np.save(file, array, allow_pickle=True)
        elif kind == "pickle":
            path.write_bytes(place.pickled())
        else:
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("weights.npy", place.pickled())
        return lambda: read_arrays(path, "cached fit")

    return write


# ---- CLIP folders, and other networks -----------------------------------------------------------


def clip_text(**changes: Any) -> Payload:
    """A CLIP folder whose text config has other entries; `{place}` is a folder with code."""

    def write(place: Place) -> Any:
        folder = place.clip()
        for below in (folder, place.folder):
            with_auto_map(below)
            place.code(below)
        path = folder / "open_clip_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        tower = "vision_cfg" if any(key.startswith("timm") for key in changes) else "text_cfg"
        for key, value in changes.items():
            if isinstance(value, str):
                value = value.format(place=place.folder)
            config["model_cfg"][tower][key] = value
        path.write_text(json.dumps(config), encoding="utf-8")
        return open_clip_model(folder)

    return write


def clip_weights(name: str, keep: str = "") -> Payload:
    """A CLIP folder with a pickle `name`; its own weights are renamed to `keep`, or removed."""

    def write(place: Place) -> Any:
        folder = place.clip()
        own = folder / "open_clip_model.safetensors"
        if keep:
            own.rename(folder / keep)
        else:
            own.unlink()
        (folder / name).write_bytes(place.zipped())
        return open_clip_model(folder)

    return write


def clip_file(name: str) -> Payload:
    def write(place: Place) -> Any:
        path = place.folder / name
        path.write_bytes(place.zipped())
        return open_clip_model(f"RN50/{path}")

    return write


def noisy_classifier(place: Place) -> Any:
    from diffcls.models import noisy_classifier

    folder = place.folder / "noisy"
    shutil.copytree(noisy_classifier.folder_of("noisy-digits"), folder)
    (folder / noisy_classifier.CHECKPOINT).write_bytes(place.zipped())
    return lambda: noisy_classifier.load(str(folder))


PAYLOADS: dict[str, Payload] = {
    **{f"part of transformers.{name}": auto_class(name) for name in AUTO_MAP},
    **{
        f"part of diffusers.{name}": part_of("diffusers", name)
        for name in (
            *("AutoModel", "ModularPipeline", "ComponentsManager", "DiffusionPipeline"),
            *("AutoPipelineForText2Image", "ModularPipelineBlocks"),
        )
    },
    "part of a module beside the index": part_of("payload", "EvilPreTrainedModel"),
    "part of a nested pipeline": part_of("pipeline", "EvilConfig"),
    "part of the standard library": part_of("os", "system"),
    "part of a class of another role": part_of("transformers", "PreTrainedTokenizer", "tokenizer"),
    "scheduler of transformers": part_of("transformers", "AutoModel", "scheduler"),
    "scheduler that is none": part_of("diffusers", "AutoModelScheduler", "scheduler"),
    "part that no family has": part_of("transformers", "AutoModel", "extra"),
    "family of a module beside the index": index_entry(_class_name="payload.EvilConfig"),
    "family as a list": index_entry(_class_name=["pipeline", "EvilConfig"]),
    "family of any pipeline": index_entry(_class_name="DiffusionPipeline"),
    "custom pipeline": index_entry(custom_pipeline="pipeline.py", _custom_pipeline="pipeline"),
    "auto_map in the index": index_entry(auto_map=AUTO_MAP, _auto_map=AUTO_MAP),
    "CLIPTokenizer with auto_map": config_entry(
        "tokenizer/tokenizer_config.json", auto_map=AUTO_MAP
    ),
    "tokenizer of a class beside it": config_entry(
        "tokenizer/tokenizer_config.json", tokenizer_class="payload.EvilPreTrainedTokenizer"
    ),
    "CLIPTextModel with auto_map": config_entry("text_encoder/config.json", auto_map=AUTO_MAP),
    "CLIPTextModel with an attention of its own": config_entry(
        "text_encoder/config.json", attn_implementation="someone/attention"
    ),
    "U-Net with auto_map": config_entry("unet/config.json", auto_map=AUTO_MAP),
    "U-Net of a class beside it": config_entry(
        "unet/config.json", _class_name=["payload", "EvilPreTrainedModel"]
    ),
    "scheduler with auto_map": config_entry("scheduler/scheduler_config.json", auto_map=AUTO_MAP),
    "adapter of another place": adapter_of_another_place,
    **{f"{part}: .bin instead": weights_bin(part, beside=False) for part in WEIGHTS},
    **{f"{part}: .bin beside": weights_bin(part, beside=True) for part in WEIGHTS},
    "unet: .fp16.bin beside": weights_bin("unet", True, "diffusion_pytorch_model.fp16.bin"),
    "unet: .pt instead": weights_bin("unet", False, "diffusion_pytorch_model.pt"),
    **{f"{part}: a raw pickle as safetensors": false_safetensors(part, False) for part in WEIGHTS},
    "unet: a zipped pickle as safetensors": false_safetensors("unet", True),
    **{f"{part}: a shard is a pickle": shard_bin(part) for part in WEIGHTS},
    "unet: a shard of another folder": shard_bin("unet", outside=True),
    **{f"model file {name}": single_file(name) for name in ("m.ckpt", "m.pt", "m.bin")},
    "model file: a raw pickle as safetensors": single_file("m.safetensors", zipped=False),
    "model file: a zipped pickle as safetensors": single_file("m.safetensors"),
    "model file completed by pickles": file_completed_by_pickles,
    **{f"LoRA {name}": lora(name) for name in ("l.bin", "l.pt", "l.ckpt", "l.safetensors")},
    "LoRA: a raw pickle as safetensors": lora("l.safetensors", zipped=False),
    "noise: zipped pickle": noise("noise.pt", zipped=True),
    "noise: raw pickle": noise("noise.pt", zipped=False),
    "noise: pickle as safetensors": noise("noise.safetensors", zipped=False),
    "CIFAR-10: images": cifar10("test_batch"),
    "CIFAR-10: names": cifar10("batches.meta"),
    **{f"cached fit: {kind}": archive(kind) for kind in ("archive", "array", "pickle", "member")},
    "CLIP: text encoder of another folder": clip_text(
        hf_model_name="{place}", hf_tokenizer_name=""
    ),
    "CLIP: text encoder on the Hub": clip_text(hf_model_name="someone/encoder"),
    "CLIP: tokenizer with auto_map": clip_text(hf_tokenizer_name="{place}"),
    "CLIP: tokenizer options": clip_text(tokenizer_kwargs={"trust_remote_code": True}),
    "CLIP: image encoder of another folder": clip_text(timm_model_name="local-dir:{place}"),
    "CLIP: image encoder on the Hub": clip_text(timm_model_name="hf-hub:someone/encoder"),
    "CLIP: .bin instead": clip_weights("open_clip_pytorch_model.bin"),
    "CLIP: .pth instead": clip_weights("model.pth"),
    "CLIP: .bin that open_clip prefers": clip_weights(
        "open_clip_pytorch_model.bin", keep="model.safetensors"
    ),
    "CLIP: a pickle as safetensors": clip_weights("open_clip_model.safetensors"),
    "CLIP: a file of weights": clip_file("w.bin"),
    "CLIP: a file of weights as safetensors": clip_file("w.safetensors"),
    "classifier of noisy images": noisy_classifier,
}
HARMLESS = {
    "custom pipeline",
    "unet: .bin beside",
    "vae: .bin beside",
    "text_encoder: .bin beside",
    "unet: .fp16.bin beside",
    "U-Net of a class beside it",
    "tokenizer of a class beside it",
    "auto_map in the index",
    "cached fit: member",
    "CLIP: .bin that open_clip prefers",
}
"""Payloads beside a model that opens as if they were not there."""
