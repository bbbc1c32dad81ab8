"""Data sets for training: one component a file, configured by `conf/examples/`.

A data set imports no other data set.
"""
