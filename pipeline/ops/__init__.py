"""Pure functions on boxes, masks, tables and pictures.

Imports `core`. Begin with `boxes.py`.
"""
