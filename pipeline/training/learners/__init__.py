"""Parts of training that depend on the task: targets, losses and validation figures.

Begin with `learner.py`, which has the protocol. There is one file for each kind of output.
"""
