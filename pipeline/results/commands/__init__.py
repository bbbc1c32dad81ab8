"""One verb a file: `Options` are its settings, `run_command` does the work.

Each verb reads finished runs and needs no model. A verb imports no other verb.
"""
