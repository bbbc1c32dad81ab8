"""Find inputs that are the same picture, and skip them.

Begin with `find.py`.
"""
