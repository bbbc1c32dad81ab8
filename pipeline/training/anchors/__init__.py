"""Propose anchor boxes that fit annotated data.

Begin with `propose_anchors.py`.
"""
