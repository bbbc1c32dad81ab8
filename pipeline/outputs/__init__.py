"""Sinks, which write the results of a run, and exporters, which convert finished runs.

Imports `core`, `config`, `storage` and `ops`. Begin with `sinks/parquet.py`, then
`exporters/coco.py`.
"""
