"""Decode image and video files into tensors.

Begin with `image.py`, or with `frame_reader.py` for videos. `header.py` and `video_index.py` read
sizes and times without decoding.
"""
