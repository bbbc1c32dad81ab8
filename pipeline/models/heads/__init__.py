"""Heads: what a program in a file computes. One component a file, configured by `conf/head/`.

A head imports no other head. To add one, write `heads/<name>.py` and `conf/head/<name>.yaml`.
`torchvision` is the head of a program that no other head recognises.
"""
