"""Random access to the images in tar and zip archives.

Begin with `members.py`, which lists and opens them. `archive_format.py` defines the operations of
an archive format; `tar_format.py` and `zip_format.py` implement them. `archive_source.py` is the
base class of the sources.
"""
