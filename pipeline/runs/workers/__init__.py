"""Worker processes that compute shards for another process.

Start reading with `worker.py`.
"""
