"""Names of keypoints."""

from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

from pipeline.ops.keypoints import COCO_KEYPOINTS, find_mirrored_keypoints

NAMES = ("nose", "left_eye", "right_eye", "left_ear", "middle", "left_")


def test_left_and_right_points_change_places_by_name():
    # left_ear has no partner here and stays what it is
    assert find_mirrored_keypoints(NAMES) == [0, 2, 1, 3, 4, 5]
    assert find_mirrored_keypoints(()) == []


def test_the_points_of_people_are_those_of_torchvision_s_detector():
    meta = KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.meta
    assert list(COCO_KEYPOINTS) == meta["keypoint_names"]
