"""The temporal GAN: networks, losses, one training step, sampling (StyleVideoGAN, arXiv 2107.07224)."""
