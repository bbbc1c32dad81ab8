"""Decode image and video files into tensors.

Begin with `image.py`.
"""
