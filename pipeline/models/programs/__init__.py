"""Models that are programs in a file: ONNX, TorchScript and torch.export.

Begin with `base.py`.
"""
