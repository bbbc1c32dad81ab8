"""Sources: one component per file, configured by `conf/source/`.

A source does not import another source.
"""
