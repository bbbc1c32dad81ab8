"""Measure how much the distributions of two runs differ."""
