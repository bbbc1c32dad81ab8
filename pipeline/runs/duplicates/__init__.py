"""Find inputs that are the same image, and skip them.

Begin with `find.py`. `similarity.py` compares images, `skip.py` skips duplicates in a run, and
`command.py` is the verb `duplicates`.
"""
