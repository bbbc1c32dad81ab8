"""Data sets for training, one component in each file, configured by `conf/examples/`.

A data set implements `TrainingData` of `data_protocols.py` and imports no other data set.
"""
