"""Model families of diffusers that are refused, each with its reason, and other names of families.

With `diffcls.models.family_table` this covers all text-to-image pipelines of diffusers: a test
compares both with its own table, ``AUTO_TEXT2IMAGE_PIPELINES_MAPPING``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diffcls.models.family_table import FAMILY_TABLE
from diffcls.support.errors import ModelError


@dataclass(frozen=True)
class Unsupported:
    """Why a pipeline's class is refused.

    Args:
        reason: a sentence without capital and full stop.
        instead: class of a pipeline that can be chosen instead; empty where none is near.
    """

    reason: str
    instead: str = ""


def _each(reason: str, **instead: str) -> dict[str, Unsupported]:
    """Classes that share a reason, each with the one to choose instead."""
    return {name: Unsupported(reason, other) for name, other in instead.items()}


CONTROL = "a control image is part of its input"
MASK = "a masked image is part of its input"
EDIT = "an image to be edited is part of its input"
INSTRUCT = "it edits images by an instruction (diffcls edit --instruction) and classifies none"
SMALL_IMAGE = "a smaller image is part of its input"
PRIOR = "its network is conditioned on an image embedding that another model, the prior, samples"
STAGES = "it denoises in stages, and the latents of one condition the next"
DISTILLED = "it is distilled to a few steps, and no longer predicts the noise that was added"
AUTOREGRESSIVE = "an autoregressive model samples a part of the condition"
VIDEO = "it generates videos"
VISION = "it is not built here yet: its text encoder is a model of vision and language"
REFERENCE_IMAGES = "it is not built here yet: it also reads reference images"
CHATGLM = "it is not built here yet: its text encoder, ChatGLM, is no class of transformers"
TWO_NETWORKS = (
    "it is not built here yet: its text encoder is a model of vision and language, and guidance "
    "has a network of its own"
)

UNSUPPORTED: Mapping[str, Unsupported] = {
    **_each(
        CONTROL,
        StableDiffusionControlNetPipeline="StableDiffusionPipeline",
        StableDiffusionControlNetPAGPipeline="StableDiffusionPipeline",
        StableDiffusionXLControlNetPipeline="StableDiffusionXLPipeline",
        StableDiffusionXLControlNetPAGPipeline="StableDiffusionXLPipeline",
        StableDiffusionXLControlNetUnionPipeline="StableDiffusionXLPipeline",
        StableDiffusion3ControlNetPipeline="StableDiffusion3Pipeline",
        FluxControlPipeline="FluxPipeline",
        FluxControlNetPipeline="FluxPipeline",
        CogView4ControlPipeline="CogView4Pipeline",
        QwenImageControlNetPipeline="QwenImagePipeline",
        ZImageControlNetPipeline="ZImagePipeline",
        ZImageControlNetInpaintPipeline="ZImagePipeline",
    ),
    **_each(
        MASK,
        StableDiffusionInpaintPipeline="StableDiffusionPipeline",
        StableDiffusionXLInpaintPipeline="StableDiffusionXLPipeline",
        FluxFillPipeline="FluxPipeline",
    ),
    **_each(
        INSTRUCT,
        StableDiffusionInstructPix2PixPipeline="StableDiffusionPipeline",
        StableDiffusionXLInstructPix2PixPipeline="StableDiffusionXLPipeline",
    ),
    **_each(
        EDIT,
        QwenImageEditPipeline="QwenImagePipeline",
        QwenImageEditPlusPipeline="QwenImagePipeline",
    ),
    **_each(
        SMALL_IMAGE,
        StableDiffusionUpscalePipeline="StableDiffusionPipeline",
        IFSuperResolutionPipeline="IFPipeline",
    ),
    **_each(
        PRIOR,
        KandinskyCombinedPipeline="Kandinsky3Pipeline",
        KandinskyPipeline="Kandinsky3Pipeline",
        KandinskyV22CombinedPipeline="Kandinsky3Pipeline",
        KandinskyV22Pipeline="Kandinsky3Pipeline",
    ),
    **_each(
        STAGES,
        WuerstchenCombinedPipeline="",
        WuerstchenDecoderPipeline="",
        StableCascadeCombinedPipeline="",
        StableCascadeDecoderPipeline="",
    ),
    **_each(
        DISTILLED,
        LatentConsistencyModelPipeline="StableDiffusionPipeline",
        SanaSprintPipeline="SanaPipeline",
    ),
    **_each(AUTOREGRESSIVE, GlmImagePipeline="CogView4Pipeline"),
    **_each(
        VIDEO,
        HeliosPipeline="",
        HeliosPyramidPipeline="",
        AnimateDiffPipeline="StableDiffusionPipeline",
        CogVideoXPipeline="CogView4Pipeline",
        HunyuanVideoPipeline="HunyuanDiTPipeline",
        LTXPipeline="",
        StableVideoDiffusionPipeline="StableDiffusionPipeline",
        WanPipeline="",
    ),
    **_each(
        VISION,
        Flux2Pipeline="Flux2KleinPipeline",
        Krea2Pipeline="QwenImagePipeline",
        NucleusMoEImagePipeline="QwenImagePipeline",
        PRXPixelPipeline="PRXPipeline",
        QwenImage21Pipeline="QwenImagePipeline",
    ),
    **_each(REFERENCE_IMAGES, ZImageOmniPipeline="ZImagePipeline"),
    **_each(TWO_NETWORKS, Ideogram4Pipeline=""),
    **_each(
        CHATGLM,
        KolorsPipeline="StableDiffusionXLPipeline",
        KolorsPAGPipeline="StableDiffusionXLPipeline",
    ),
}
"""Class of a pipeline -> why it is refused."""

ALIASES: Mapping[str, str] = {
    "StableDiffusionPAGPipeline": "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLPAGPipeline": "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLPipeline",
    "StableDiffusion3PAGPipeline": "StableDiffusion3Pipeline",
    "StableDiffusion3Img2ImgPipeline": "StableDiffusion3Pipeline",
    "FluxImg2ImgPipeline": "FluxPipeline",
    "FluxKontextPipeline": "FluxPipeline",  # without an image to be edited: the same computation
    "PixArtSigmaPAGPipeline": "PixArtSigmaPipeline",
    "SanaPAGPipeline": "SanaPipeline",
    "HunyuanDiTPAGPipeline": "HunyuanDiTPipeline",
    "ChromaImg2ImgPipeline": "ChromaPipeline",
    "IFImg2ImgPipeline": "IFPipeline",
    "Kandinsky3Img2ImgPipeline": "Kandinsky3Pipeline",
    "QwenImageImg2ImgPipeline": "QwenImagePipeline",
    "ZImageImg2ImgPipeline": "ZImagePipeline",
}
"""Class of a pipeline -> the class that reads the same parts, for texts alone."""


def refusal(what: str, family: object, remedy: str) -> ModelError:
    """The error for a pipeline whose class is not in `FAMILY_TABLE`.

    Args:
        what: the problem, as the start of a sentence.
        family: name of the class, or what stands in its place.
        remedy: for a class of `ALIASES`, how its parts are put into a pipeline of the class
            ``{name}``.
    """
    if not isinstance(family, str):
        return ModelError(what, family, FAMILY_TABLE)
    if family in ALIASES:
        name = ALIASES[family]
        allowed = f"{name}, which reads the same parts"
        return ModelError(what, family, allowed, todo=remedy.format(name=name))
    if family in UNSUPPORTED:
        why = UNSUPPORTED[family]
        instead = f"choose a model of {why.instead} instead" if why.instead else "choose another"
        return ModelError(what, family, todo=f"{why.reason}; {instead}")
    return ModelError(what, family, FAMILY_TABLE)
