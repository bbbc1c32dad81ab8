"""Check annotated images and hold them as training examples.

Begin with `annotation_checker.py`. The annotations are read in `pipeline/annotations`.
"""
