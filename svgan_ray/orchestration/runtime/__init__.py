"""The modules that all jobs share: clusters, settings, places, footage, runs."""
