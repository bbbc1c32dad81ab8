"""Sinks, which write the results of a run: one component a file, configured by `conf/sink/`.

A sink imports no other sink.
"""
