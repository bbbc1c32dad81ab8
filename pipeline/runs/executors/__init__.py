"""Executors, one in each file. `conf/executor/` configures them.

An executor imports no other executor.
"""
