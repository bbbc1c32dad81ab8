"""One verb a file. Each reads finished runs and needs no model.

A verb imports no other verb.
"""
