"""Runs the pure layers on Ray: the jobs' command line, clusters, and the parallel form of each stage."""
