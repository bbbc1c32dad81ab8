"""Learn weights from annotated images, propose anchors, and export a model as a program.

It may import every room below it. Each verb begins in one file:
`train` in `train.py`, whose loop is in `trainer.py`;
`anchors` in `anchors/propose_anchors.py`;
`export-model` in `export_model/command.py`.
"""
