"""How fast a run is on this machine, beside the loops that people write, and beside what the hardware allows."""
