"""Engines: one component a file, configured by `conf/engine/`.

An engine imports no other engine.
"""
