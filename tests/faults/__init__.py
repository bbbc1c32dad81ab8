"""Faults that tests inject on purpose.

- `watched.py`: the supervised program, with a runner that has faults. `runner.py`: that runner,
  whose decoder crashes or hangs on images whose comment says so.
- `disk.py`: a disk that fails at the n-th operation. `everywhere.py`: whole runs on such a disk.
- `sigkills.py`: runs that are killed at random moments. `limited.py`: a run under a system limit.
- `tight.py`: an engine that runs out of memory above a size.
- `fuzz_decoding.py`: random bytes for the decoder.
"""
