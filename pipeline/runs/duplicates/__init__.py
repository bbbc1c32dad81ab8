"""Find inputs that are the same image, and skip them.

Begin with `find.py`. `similarity.py` has the comparison of images, `skip.py` what a run does with
the result, and `command.py` the verb `duplicates`.
"""
