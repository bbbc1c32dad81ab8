"""Listing, reading and publishing files on disks and in object stores; locks and leases.

Imports `core`. Begin with `local_backend.py`.
"""
