"""Exporters convert a finished run for another program.

One component a file, configured by `conf/exporter/`. An exporter imports no other exporter.
Exporting a model is something else: see `pipeline/training/export_model/`.
"""
