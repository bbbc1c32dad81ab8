"""Networks behind one call: `network(inputs, sizes_hw)` returns one dict per image.

One file per kind of network. Begin with `classifier.py`.
"""
