"""Measure how far the distributions of two runs are apart."""
