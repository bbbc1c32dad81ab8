"""Pure functions on boxes, masks, prediction tables and images.

Imports `core`. Begin with `boxes.py`.
"""
