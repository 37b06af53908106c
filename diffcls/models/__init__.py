"""Trained models: families behind the `Denoiser` protocol, CLIP, feature extractors."""
