"""Make the HTML report of a finished run: statistics of all rows and a gallery of images.

Begin with `write.py`.
"""
