"""Classify whole images: the k most probable classes of each."""

from pipeline.ops.top_classes import TopClasses


class Classify(TopClasses):
    """Make one row per class and image."""

    name = "classify"
    takes_clips = False
