"""Whether a run is still like an earlier one: its distributions, and how far they are apart."""
