"""Read lists of images: CSV, TSV, Parquet or text.

Begin with `reader.py`.
"""
