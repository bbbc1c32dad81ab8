"""Annotate large image collections offline. Begin reading at `pipeline/run.py`."""

__version__ = "0.1.0"
