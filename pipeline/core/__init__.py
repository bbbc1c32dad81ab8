"""Values, protocols, schemas and errors that every other room speaks of.

Imports no other room. Begin with `types.py`.
"""
