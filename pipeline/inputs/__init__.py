"""Sources of images, and the decoders, archive formats and manifests that they use.

Imports `core`, `config`, `storage` and `ops`. Begin with `image_source.py`, the base class of most
sources in `sources/`, and with `decoding/image.py`. A source module imports torch only when it
decodes, because readers of finished runs import it too and may lack torch.
"""
