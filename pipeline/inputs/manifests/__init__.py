"""Read lists of images: CSV, TSV, Parquet or text.

Begin with `reader.py`, which reads the rows. `locations.py` resolves their paths.
"""
