"""Runs: plan, run folder, fingerprint, session, isolation, workers, executors.

Imports the rooms below it. Begin with `session.py`.
"""
