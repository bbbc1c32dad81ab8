"""Annotate a large image collection offline. Start reading at `pipeline/run.py`."""

__version__ = "0.1.0"
