"""How fast it learns: up in a straight line, then down as half a cosine (Loshchilov and Hutter 2017, Goyal et al. 2017)."""

import math


def learning_rate(step: int, total: int, warmup: float, highest: float) -> float:
    """Of step 0 .. total - 1. `warmup`: the part of all steps in which it rises."""
    rising = math.ceil(warmup * total)
    if step < rising:
        return highest * (step + 1) / rising
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
