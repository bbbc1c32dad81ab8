"""Classify clips of videos: find the k most probable classes of each clip."""

from pipeline.ops.top_classes import TopClasses


class Video(TopClasses):
    """Task with one row per class and clip. The source adds when the clip begins and ends."""

    name = "video"
    takes_clips = True
