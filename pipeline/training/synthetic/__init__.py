"""Generated scenes: codes and what is mistaken for codes, drawn, placed before backgrounds and photographed.

Everything is a function of a numpy Generator: the same seed gives the same pixels in any process."""
