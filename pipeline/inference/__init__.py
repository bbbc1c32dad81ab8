"""Inference: from shards of images to batches, forward passes and prediction tables.

Imports `core`, `config`, `storage`, `ops`, `inputs`, `models`, `tasks` and `outputs`. Begin with
`predictor.py`. The diagram in `loader.py` shows where a decoded image becomes a batch.
"""
