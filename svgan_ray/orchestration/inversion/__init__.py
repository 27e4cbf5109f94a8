"""The stages of inversion: footage -> tracks -> crops -> latents -> commits. Plain Python; `invert.py` runs them on Ray."""
