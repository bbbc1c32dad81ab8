"""Classify clips of videos: the k most probable classes of each."""

from pipeline.ops.top_classes import TopClasses


class Video(TopClasses):
    """Make one row per class and clip. Where a clip begins and ends comes from its source."""

    name = "video"
    takes_clips = True
