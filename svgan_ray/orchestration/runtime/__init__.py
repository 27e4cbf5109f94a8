"""What the jobs share: clusters, settings, places, footage, runs."""
