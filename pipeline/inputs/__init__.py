"""Where images come from: sources, decoders, archives, manifests.

Imports `core`, `config`, `storage` and `ops`. Begin with `image_source.py`, the base of most
sources in `sources/`, and with `decoding/image.py`. A source module imports torch only when it
decodes, because readers of finished runs import it too.
"""
