"""Letterboxing is OpenCV's, bit for bit."""

import cv2
import numpy as np
import pytest
import torch

from pipeline.ops.letterbox import Letterbox, resize_bilinear

SIZES = np.random.default_rng(0).integers(1, 700, (120, 4)).tolist()


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.mark.parametrize(
    "sizes", [*SIZES, *[[2 * h, 2 * w, h, w] for h, w, _, _ in SIZES[:9]], [5, 7, 5, 7]]
)
def test_resized_images_equal_opencvs(sizes: list[int]) -> None:
    height, width, new_height, new_width = sizes
    pixels = random_image(height, width)
    expected = cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    resized = resize_bilinear(to_tensor(pixels), new_height, new_width)
    assert torch.equal(resized, to_tensor(expected.reshape(new_height, new_width, 3)))


@pytest.mark.parametrize(
    ("image_hw", "stride", "input_hw", "content_hw", "top", "left"),
    [
        ((480, 640), None, (640, 640), (480, 640), 80, 0),
        ((480, 640), 32, (480, 640), (480, 640), 0, 0),
        ((427, 640), 32, (448, 640), (427, 640), 10, 0),  # 21 rows: 10 above, 11 below
        ((640, 427), None, (640, 640), (640, 427), 0, 106),
        ((100, 50), None, (640, 640), (640, 320), 0, 160),  # small images are enlarged
        ((5000, 3), None, (640, 640), (640, 1), 0, 319),
    ],
)
def test_an_image_is_centred_in_the_input(
    image_hw: tuple[int, int],
    stride: int | None,
    input_hw: tuple[int, int],
    content_hw: tuple[int, int],
    top: int,
    left: int,
) -> None:
    letterbox = Letterbox.fit(image_hw, (640, 640), stride)
    assert (letterbox.input_hw, letterbox.content_hw) == (input_hw, content_hw)
    assert (letterbox.top, letterbox.left) == (top, left)

    canvas = letterbox.apply(to_tensor(np.zeros((*image_hw, 3), np.uint8)))
    assert canvas.shape == (3, *input_hw)
    rows, columns = (canvas[0] == 0).nonzero(as_tuple=True)
    assert (rows.min(), columns.min()) == (top, left)
    assert (rows.max() + 1 - top, columns.max() + 1 - left) == content_hw
    assert set(canvas.unique().tolist()) <= {0, 114}


@pytest.mark.parametrize(
    "letterbox",
    [
        Letterbox.fit((400, 300), (640, 640)),
        Letterbox.fit((400, 300), (640, 640), 32),
        Letterbox.stretch((400, 300), (640, 512)),
    ],
)
def test_boxes_return_to_the_image(letterbox: Letterbox) -> None:
    boxes = torch.tensor([[10.0, 20.0, 150.0, 380.0]])
    gains = torch.tensor([*letterbox.gains_xy] * 2)
    offset = torch.tensor([letterbox.left, letterbox.top] * 2)
    torch.testing.assert_close(letterbox.restore_boxes(boxes * gains + offset), boxes)
    whole = torch.tensor([[-50.0, -50.0, 9000.0, 9000.0]])
    assert letterbox.restore_boxes(whole).tolist() == [[0, 0, 300, 400]]
