"""Settings: declare, compose and check them, write their help, and build the configured components.

May import `core`. Begin with `settings.py`, then `groups/` (the declarations) and `compose.py`.
The command line's own helpers are here too: `verbs.py`, `failures.py`, `signals.py`, `process.py`.
"""
