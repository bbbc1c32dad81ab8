"""Models: formats, weights, class names, preprocessing, networks and the catalogue.

Imports `core`, `config`, `storage` and `ops`. Begin with `registry.py`, then `formats/builder.py`.
"""
