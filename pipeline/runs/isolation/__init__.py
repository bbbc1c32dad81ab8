"""Keep one bad input from ending a run: the supervisor and the quarantine.

`supervisor.py` imports the standard library only, besides modules that do the same.
"""
