"""Read annotated data sets: COCO, YOLO, VOC and folders named after classes.

Begin with `read_annotations.py`.
"""
