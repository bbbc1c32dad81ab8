"""Where images come from: sources, decoders, archives, manifests.

Imports `core`, `config`, `storage` and `ops`. Begin with `image_source.py`.
"""
