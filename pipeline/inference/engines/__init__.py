"""Engines: how a forward pass runs. One file per engine, configured by `conf/engine/`.

An engine does not import another engine. Begin with `engine_base.py`, which they share.
"""
