"""Sources: one component a file, configured by `conf/source/`.

A source imports no other source.
"""
