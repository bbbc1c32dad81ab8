"""Random access to the images in tar and zip archives.

Begin with `members.py`, which lists and opens them. `archive_format.py` has what an archive's kind
must provide; `tar_format.py` and `zip_format.py` provide it. `archive_source.py` is the base of the
sources.
"""
