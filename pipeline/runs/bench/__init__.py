"""Benchmark of a run on this machine, against plain PyTorch loops and the limit of the hardware."""
