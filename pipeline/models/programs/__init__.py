"""Models that are programs in a file, whatever their format. Begin with `base.py`."""
