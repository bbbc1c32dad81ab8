"""Names of keypoints."""

from collections.abc import Sequence

# The keypoints of people in COCO, in COCO's order.
COCO_KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip


def find_mirrored_keypoints(names: Sequence[str]) -> list[int]:
    """Return, for each keypoint, the index of the keypoint in its place in a mirror image.

    `left_x` and `right_x` change places. A keypoint without a partner keeps its own index.
    """
    other_side = {"left_": "right_", "right_": "left_"}
    index_of = {name: i for i, name in enumerate(names)}

    def partner(name: str) -> str:
        for prefix, other in other_side.items():
            if name.startswith(prefix):
                return other + name.removeprefix(prefix)
        return name

    return [index_of.get(partner(name), i) for i, name in enumerate(names)]
