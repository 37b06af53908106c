"""Edits of images: inversion to noise, and prompts that change what is shown."""
