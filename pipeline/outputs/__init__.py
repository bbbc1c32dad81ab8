"""What runs write (sinks), and what finished runs are converted to (exporters).

Imports `core`, `config`, `storage` and `ops`. Begin with `sinks/parquet.py`, then
`exporters/coco.py`.
"""
