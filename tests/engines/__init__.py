"""Runs on the real engines: Slurm, a Ray cluster, object stores. Their own markers select them."""
