"""From planned images to predictions: loading, batching, the forward pass.

Imports the rooms below it. Begin with `predictor.py`.
"""
