"""Random access to members of tar and zip archives.

Begin with `archives.py`.
"""
