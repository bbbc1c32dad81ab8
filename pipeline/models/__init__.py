"""Models: formats, weights, class names, preprocessing and the catalogue.

Imports `core`, `config`, `storage` and `ops`. Begin with `registry.py`.
"""
