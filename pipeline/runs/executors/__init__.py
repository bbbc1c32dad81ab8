"""Executors: one component a file, configured by `conf/executor/`.

An executor imports no other executor.
"""
