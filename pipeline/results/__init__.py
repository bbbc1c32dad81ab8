"""Code that reads finished runs: evaluation, comparison, drift, report and their commands.

This package imports only packages of lower layers, and no model. Begin with `commands/`.
"""
