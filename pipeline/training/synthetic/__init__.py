"""Generated scenes: codes and things that are mistaken for codes, before backgrounds.

Begin with `scene.py`. Everything is a function of a numpy Generator: the same seed gives the same
pixels in any process. A change in the order of random draws changes the data.
"""
