"""Table of model families: for each pipeline class, its adapter and the classes of its parts.

A new family is one row here and one file in `diffcls.models.families`. Only classes that a family
uses are accepted. All of them are part of diffusers and transformers: a model cannot name a class
that loads code of its own, such as ``AutoModel``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DIFFUSERS, TRANSFORMERS = "diffusers", "transformers"
ADAPTERS = "diffcls.models.families"

Part = tuple[str, str]
"""Library of a part, and the pattern of its class."""

SCHEDULER: Part = (DIFFUSERS, r"\w+Scheduler")
KL: Part = (DIFFUSERS, "AutoencoderKL")
CLIP: Part = (TRANSFORMERS, "CLIPTextModel")
CLIP_PROJECTED: Part = (TRANSFORMERS, "CLIPTextModelWithProjection")
CLIP_TOKENIZER: Part = (TRANSFORMERS, "CLIPTokenizer|CLIPTokenizerFast")
T5: Part = (TRANSFORMERS, "T5EncoderModel")
T5_TOKENIZER: Part = (TRANSFORMERS, "T5Tokenizer|T5TokenizerFast")
GEMMA: Part = (TRANSFORMERS, "Gemma2Model|Gemma2PreTrainedModel|Gemma2ForCausalLM")
QWEN_TOKENIZER: Part = (TRANSFORMERS, "Qwen2Tokenizer|Qwen2TokenizerFast")
# a tokenizer of the tokenizers library: its class is only the name that it was saved under
TOKENIZER: Part = (
    TRANSFORMERS,
    "PreTrainedTokenizerFast|TokenizersBackend|"
    r"(?:Bert|Gemma|Llama|Qwen2|T5|MT5|XLMRoberta|Glm4?)Tokenizer(?:Fast)?",
)
UNET: Part = (DIFFUSERS, "UNet2DConditionModel")


@dataclass(frozen=True)
class Family:
    """A model family.

    Args:
        adapter: place of its denoiser, ``"module:class"``.
        parts: part -> library and pattern of its class.
        optional: parts that a pipeline may lack, each group with all of its members.
        reads_class_ids: whether the model reads class ids instead of texts.
        text_defaults: parameters of the pipeline's ``__call__`` whose default values become part of
            every prompt, such as an instruction; they are part of a run's specification. A default
            of None, or none, stands for the pipeline's attribute of the same name.
        control: class of diffusers of its ControlNets; empty if the adapter takes none.
    """

    adapter: str
    parts: Mapping[str, Part]
    optional: tuple[tuple[str, ...], ...] = ()
    reads_class_ids: bool = False
    text_defaults: tuple[str, ...] = ()
    control: str = ""


def _transformer(
    name: str,
    adapter: str,
    text_encoder: Part,
    tokenizer: Part,
    vae: Part = KL,
    text_defaults: tuple[str, ...] = (),
    control: str = "",
    **others: Part,
) -> Family:
    """A transformer of latents with one text encoder, or more in `others`."""
    parts = {
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        **others,
        "transformer": (DIFFUSERS, name),
        "scheduler": SCHEDULER,
    }
    return Family(f"{ADAPTERS}.{adapter}", parts, text_defaults=text_defaults, control=control)


_STABLE_DIFFUSION = {
    "vae": KL,
    "text_encoder": CLIP,
    "tokenizer": CLIP_TOKENIZER,
    "unet": UNET,
    "scheduler": SCHEDULER,
}
_STABLE_DIFFUSION_XL = {
    **_STABLE_DIFFUSION,
    "text_encoder_2": CLIP_PROJECTED,
    "tokenizer_2": CLIP_TOKENIZER,
}
_PIXART = _transformer(
    "PixArtTransformer2DModel|Transformer2DModel",
    "pixart:PixArtDenoiser",
    T5,
    T5_TOKENIZER,
    text_defaults=("clean_caption",),
)
_PIXEL_UNET = Family(
    f"{ADAPTERS}.pixel_unet:PixelUNetDenoiser",
    {"unet": (DIFFUSERS, "UNet2DModel"), "scheduler": SCHEDULER},
    reads_class_ids=True,
)

FAMILY_TABLE: Mapping[str, Family] = {
    "StableDiffusionPipeline": Family(
        f"{ADAPTERS}.stable_diffusion:StableDiffusionDenoiser",
        _STABLE_DIFFUSION,
        control="ControlNetModel",
    ),
    "StableDiffusionXLPipeline": Family(
        f"{ADAPTERS}.stable_diffusion_xl:StableDiffusionXLDenoiser",
        _STABLE_DIFFUSION_XL,
        control="ControlNetModel",
    ),
    "StableDiffusion3Pipeline": Family(
        f"{ADAPTERS}.stable_diffusion_3:StableDiffusion3Denoiser",
        {
            "vae": KL,
            "text_encoder": CLIP_PROJECTED,
            "text_encoder_2": CLIP_PROJECTED,
            "text_encoder_3": T5,
            "tokenizer": CLIP_TOKENIZER,
            "tokenizer_2": CLIP_TOKENIZER,
            "tokenizer_3": T5_TOKENIZER,
            "transformer": (DIFFUSERS, "SD3Transformer2DModel"),
            "scheduler": SCHEDULER,
        },
        optional=(("text_encoder_3", "tokenizer_3"),),
        control="SD3ControlNetModel",
    ),
    "FluxPipeline": _transformer(
        "FluxTransformer2DModel",
        "flux:FluxDenoiser",
        CLIP,
        CLIP_TOKENIZER,
        control="FluxControlNetModel",
        text_encoder_2=T5,
        tokenizer_2=T5_TOKENIZER,
    ),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": _PIXART,
    "DiTPipeline": Family(
        f"{ADAPTERS}.dit:DiTDenoiser",
        {
            "vae": KL,
            "transformer": (DIFFUSERS, "DiTTransformer2DModel|Transformer2DModel"),
            "scheduler": SCHEDULER,
        },
        reads_class_ids=True,
    ),
    "DDPMPipeline": _PIXEL_UNET,
    "DDIMPipeline": _PIXEL_UNET,
    "QwenImagePipeline": _transformer(
        "QwenImageTransformer2DModel",
        "qwen_image:QwenImageDenoiser",
        (TRANSFORMERS, "Qwen2_5_VLForConditionalGeneration"),
        QWEN_TOKENIZER,
        vae=(DIFFUSERS, "AutoencoderKLQwenImage"),
        text_defaults=("prompt_template_encode",),
    ),
    "ZImagePipeline": _transformer(
        "ZImageTransformer2DModel",
        "z_image:ZImageDenoiser",
        (TRANSFORMERS, "Qwen3Model|Qwen3ForCausalLM"),
        QWEN_TOKENIZER,
    ),
    "OvisImagePipeline": _transformer(
        "OvisImageTransformer2DModel",
        "ovis_image:OvisImageDenoiser",
        (TRANSFORMERS, "Qwen3Model|Qwen3ForCausalLM"),
        QWEN_TOKENIZER,
        text_defaults=("system_prompt",),
    ),
    "Flux2KleinPipeline": _transformer(
        "Flux2Transformer2DModel",
        "flux_2_klein:Flux2KleinDenoiser",
        (TRANSFORMERS, "Qwen3ForCausalLM"),
        QWEN_TOKENIZER,
        vae=(DIFFUSERS, "AutoencoderKLFlux2"),
        text_defaults=("text_encoder_out_layers",),
    ),
    "SanaPipeline": _transformer(
        "SanaTransformer2DModel",
        "sana:SanaDenoiser",
        GEMMA,
        TOKENIZER,
        vae=(DIFFUSERS, "AutoencoderDC"),
        text_defaults=("complex_human_instruction",),
    ),
    "LuminaPipeline": _transformer(
        "LuminaNextDiT2DModel",
        "lumina:LuminaDenoiser",
        (TRANSFORMERS, "GemmaModel|GemmaPreTrainedModel|GemmaForCausalLM"),
        TOKENIZER,
        text_defaults=("clean_caption",),
    ),
    "Lumina2Pipeline": _transformer(
        "Lumina2Transformer2DModel",
        "lumina_2:Lumina2Denoiser",
        GEMMA,
        TOKENIZER,
        text_defaults=("system_prompt",),
    ),
    "ChromaPipeline": _transformer(
        "ChromaTransformer2DModel", "chroma:ChromaDenoiser", T5, T5_TOKENIZER
    ),
    "AuraFlowPipeline": _transformer(
        "AuraFlowTransformer2DModel",
        "aura_flow:AuraFlowDenoiser",
        (TRANSFORMERS, "UMT5EncoderModel"),
        TOKENIZER,
    ),
    "CogView4Pipeline": _transformer(
        "CogView4Transformer2DModel",
        "cogview_4:CogView4Denoiser",
        (TRANSFORMERS, "GlmModel"),
        TOKENIZER,
    ),
    "CogView3PlusPipeline": _transformer(
        "CogView3PlusTransformer2DModel", "cogview_3_plus:CogView3PlusDenoiser", T5, T5_TOKENIZER
    ),
    "HunyuanDiTPipeline": _transformer(
        "HunyuanDiT2DModel",
        "hunyuan_dit:HunyuanDiTDenoiser",
        (TRANSFORMERS, "BertModel"),
        TOKENIZER,
        text_encoder_2=(TRANSFORMERS, "T5EncoderModel|MT5EncoderModel"),
        tokenizer_2=TOKENIZER,
    ),
    "Kandinsky3Pipeline": Family(
        f"{ADAPTERS}.kandinsky_3:Kandinsky3Denoiser",
        {
            "movq": (DIFFUSERS, "VQModel"),
            "text_encoder": T5,
            "tokenizer": T5_TOKENIZER,
            "unet": (DIFFUSERS, "Kandinsky3UNet"),
            "scheduler": SCHEDULER,
        },
    ),
    "IFPipeline": Family(
        f"{ADAPTERS}.deepfloyd_if:DeepFloydIFDenoiser",
        {"text_encoder": T5, "tokenizer": T5_TOKENIZER, "unet": UNET, "scheduler": SCHEDULER},
        text_defaults=("clean_caption",),
    ),
    "PRXPipeline": Family(
        f"{ADAPTERS}.prx:PRXDenoiser",
        {
            "vae": (DIFFUSERS, "AutoencoderKL|AutoencoderDC"),
            "text_encoder": (TRANSFORMERS, "T5GemmaEncoder"),
            "tokenizer": TOKENIZER,
            "transformer": (DIFFUSERS, "PRXTransformer2DModel"),
            "scheduler": SCHEDULER,
        },
        optional=(("vae",),),
    ),
}

EDITOR_TABLE: Mapping[str, Family] = {
    "StableDiffusionInstructPix2PixPipeline": Family(
        f"{ADAPTERS}.instruct_pix2pix:InstructPix2PixDenoiser", _STABLE_DIFFUSION
    ),
    "StableDiffusionXLInstructPix2PixPipeline": Family(
        f"{ADAPTERS}.instruct_pix2pix:InstructPix2PixXLDenoiser", _STABLE_DIFFUSION_XL
    ),
}
"""Families that edit images by an instruction; an image is part of their input, so that they
classify none."""

AUTOENCODERS = ("vae", "movq")
"""Names of the part that maps between images and latents."""
UNUSED = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")
"""Parts that classification does not use, and that are not opened."""
CONTROL_NETS = frozenset(family.control for family in FAMILY_TABLE.values()) - {""}
"""Classes of ControlNets."""

NETWORKS = ("unet", "transformer")


def family_named(name: str) -> Family:
    """The family of a pipeline's class, of either table.

    Raises:
        KeyError: for a class that is in neither.
    """
    return FAMILY_TABLE[name] if name in FAMILY_TABLE else EDITOR_TABLE[name]


def network_part(family: str) -> str:
    """Name of the denoising network among the parts of a pipeline of the family."""
    return next(name for name in NETWORKS if name in family_named(family).parts)


def optional_parts(family: str) -> frozenset[str]:
    """Parts that a pipeline of the family may lack."""
    return frozenset(name for group in family_named(family).optional for name in group)
