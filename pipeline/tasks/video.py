"""The most probable classes of a clip."""

from pipeline.tasks.classify import Classify


class Video(Classify):
    """One row per class and clip, as for images; the clip's start and end come from its source."""

    name = "video"
    takes_clips = True
