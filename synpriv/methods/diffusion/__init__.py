"""Diffusion: the images that a denoiser generates are what is released."""
