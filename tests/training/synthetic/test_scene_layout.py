from collections import Counter

import numpy as np

from pipeline.training.synthetic.fonts_and_words import TRAINING
from pipeline.training.synthetic.perspective import bounding_box, project_points, rectangle_corners
from pipeline.training.synthetic.scene_layout import lay_out_scene

LAYOUTS = [lay_out_scene(np.random.default_rng([7, seed]), TRAINING, 320) for seed in range(150)]


def test_boxes_are_inside_the_frame_and_not_tiny():
    for layout in LAYOUTS:
        boxes = np.array(layout.boxes).reshape(-1, 4)
        assert len(boxes) == len(layout.labels)
        assert (boxes >= 0).all() and (boxes <= layout.frame_wh * 2).all()
        assert ((boxes[:, 2:] - boxes[:, :2]) >= 6).all()


def test_codes_are_of_all_sizes_in_frames_of_all_shapes():
    sides = [max(box[2:] - box[:2]) / max(one.frame_wh) for one in LAYOUTS for box in one.boxes]
    aspects = [one.frame_wh[0] / one.frame_wh[1] for one in LAYOUTS]
    assert min(sides) < 0.1 and max(sides) > 0.85
    assert min(aspects) < 0.6 and max(aspects) > 1.6


def test_one_code_is_the_usual_number():
    counts = Counter(len(one.boxes) for one in LAYOUTS)
    assert counts.most_common(1)[0][0] == 1 and counts[0] > 15 and max(counts) > 4


def test_nothing_that_is_placed_later_covers_a_code():
    for layout in LAYOUTS:
        before = 0
        for one in layout.placed:
            area = bounding_box(project_points(rectangle_corners(one.thing.size_hw), one.matrix))
            for box in layout.boxes[:before]:
                assert not (np.minimum(area[2:], box[2:]) > np.maximum(area[:2], box[:2])).all()
            before += len(one.thing.codes)
            before = min(before, len(layout.boxes)) if one.thing.codes else before
