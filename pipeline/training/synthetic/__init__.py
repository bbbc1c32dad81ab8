"""Generated scenes: codes, and things that resemble codes, in front of backgrounds.

Begin with `scene.py`. All randomness comes from a numpy Generator, so the same seed gives the same
pixels in any process. A change in the order of random draws changes the data.
"""
