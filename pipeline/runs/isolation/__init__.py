"""The supervisor and the quarantine, which keep one bad input from ending a run.

`supervisor.py` imports the standard library only, besides modules that do the same.
"""
