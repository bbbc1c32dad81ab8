"""Measure how right a finished run is, against annotations. It needs no model."""
