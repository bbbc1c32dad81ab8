"""Classify whole images: find the k most probable classes of each image."""

from pipeline.ops.top_classes import TopClasses


class Classify(TopClasses):
    """Task with one row per class and image."""

    name = "classify"
    takes_clips = False
