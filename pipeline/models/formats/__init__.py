"""Formats, that is ways to store a model: one component a file, configured by `conf/format/`.

A format imports no other format.
"""
