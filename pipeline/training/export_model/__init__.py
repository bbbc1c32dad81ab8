"""Export a torchvision model as a program file and compare it with the original.

Begin with `command.py`.
"""
