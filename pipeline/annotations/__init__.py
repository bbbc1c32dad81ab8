"""Annotations: one reader for each format that annotated data sets have.

Imports `core`, `config`, `storage`, `ops` and `inputs`. Training and evaluation read their data
here. Begin with `read_annotations.py`, which finds out the format.
"""
