"""Sinks write the results of a run. One component a file, configured by `conf/sink/`.

A sink imports no other sink.
"""
