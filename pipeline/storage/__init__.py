"""Listing, reading and publishing files on disks and in object stores; locks and leases.

Imports `core`. Begin with `run_storage.py`, then `local_backend.py`.
"""
