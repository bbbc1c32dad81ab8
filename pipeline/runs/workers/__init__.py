"""Worker processes that do shards for another process.

Begin with `worker.py`.
"""
