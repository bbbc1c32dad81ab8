"""Faults on purpose, for any test to use.

- `watched.py`, `runner.py`: the watched program with a decoder that crashes or hangs on pictures that say so in a comment.
- `disk.py`: a disk that fails at the n-th operation; `everywhere.py`: whole runs on such a disk, forked for speed.
- `sigkills.py`: runs killed at random moments; `limited.py`: a run under a limit of the system.
- `tight.py`: a model that runs out of memory above a size.
- `fuzz_decoding.py`: anything at all into the decoding path.
"""
