"""Make the HTML report of a finished run: statistics of all rows, a gallery of some images.

Begin with `write.py`.
"""
