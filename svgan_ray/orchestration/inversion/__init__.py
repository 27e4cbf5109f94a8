"""The stages of inversion: footage -> tracks -> crops -> latents -> commits.

Plain Python without Ray; `svgan_ray.orchestration.invert` runs them on a cluster.
"""
