"""How good generated motion is, measured in latent space."""
