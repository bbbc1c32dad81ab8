"""Runs: plan, run folder, fingerprint, session, isolation, workers, executors.

Imports the rooms below it. Begin with `pipeline/run.py`, then `session.py` and `shard_writer.py`.
"""
