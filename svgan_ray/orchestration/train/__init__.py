"""Training: latents to a model of the motion."""
