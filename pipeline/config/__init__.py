"""Settings: declared, composed from files and command line, checked, and turned into components.

Imports `core`. Begin with `settings.py`.
"""
