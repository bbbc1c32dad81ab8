"""Measure the accuracy of a finished run against annotations. No model is needed."""
