"""Values, protocols, schemas, keys and errors that all other rooms use.

Imports no other room. Begin with `types.py`, the glossary of the values, and `protocols.py`.
"""
