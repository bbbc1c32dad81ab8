"""Exporters: one component a file, configured by `conf/exporter/`.

An exporter imports no other exporter.
"""
