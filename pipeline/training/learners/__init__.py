"""What differs between tasks in training: targets, losses, measures.

Begin with `base.py`.
"""
