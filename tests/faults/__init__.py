"""Faults on purpose. `runner.py` is the program with a decoder that does what a picture's comment says; `pictures.py` makes
such pictures; `watched` in `conftest.py` runs it all under the watching process."""
