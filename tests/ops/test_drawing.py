import numpy as np
import pytest
import torch

from pipeline.ops.drawing import Canvas, choose_colour, choose_text_colour

NAMES = ["person", "dog", "traffic light", "", "éléphant", "n" * 300, "<img onerror>"]


def grey(height, width):
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def count(image, colour):
    """How many pixels have exactly this colour."""
    return int((image == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(dim=0).sum())


def where(image, colour):
    """(left, top, right, bottom) of the pixels of this colour."""
    y, x = torch.where((image == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(dim=0))
    return int(x.min()), int(y.min()), int(x.max()), int(y.max())


# --- boxes


def test_no_boxes_leave_the_image_as_it_is():
    image = (
        torch.arange(3 * 300 * 400, dtype=torch.int64)
        .remainder(256)
        .to(torch.uint8)
        .reshape(3, 300, 400)
    )
    canvas = Canvas(image)
    canvas.draw_boxes(boxes(), [], [])
    canvas.draw_label_list([], [])
    assert torch.equal(canvas.image, image)


def test_drawing_does_not_change_the_image_it_was_given():
    image = grey(300, 400)
    canvas = Canvas(image)
    canvas.draw_boxes(boxes((20, 60, 200, 200)), ["dog"], ["dog 0.90"])
    canvas.draw_label_list(["dog"], ["dog 0.90"])
    assert torch.equal(image, grey(300, 400)) and not torch.equal(canvas.image, image)


@pytest.mark.parametrize(
    ("height", "width", "drawn"),
    [
        (1, 1, (256, 256)),
        (1, 255, (2, 510)),
        (10, 20, (130, 260)),
        (255, 100, (510, 200)),
        (256, 256, (256, 256)),
        (300, 400, (300, 400)),
        (2560, 10, (2560, 10)),
        (100, 5120, (50, 2560)),
        (4000, 3000, (2560, 1920)),
        (1, 6000, (1, 2560)),
    ],
)
def test_tiny_images_are_enlarged_and_huge_ones_reduced(height, width, drawn):
    canvas = Canvas(grey(height, width))
    assert tuple(canvas.image.shape) == (3, *drawn) and canvas.image.dtype == torch.uint8
    canvas.draw_boxes(boxes((0, 0, width, height)), ["dog"], ["dog 0.90"])
    canvas.draw_label_list(["dog"], ["dog 0.90"])
    assert tuple(canvas.image.shape) == (3, *drawn) and canvas.image.dtype == torch.uint8


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (400, 400, (100, 200, 300, 350)),
        (40, 40, (10, 20, 30, 35)),
        (6000, 6000, (1500, 3000, 4500, 5250)),
    ],
)
def test_a_box_is_drawn_where_it_is_in_the_original(height, width, box):
    canvas = Canvas(grey(height, width))
    canvas.draw_boxes(boxes(box), ["dog"], [""])
    scale = canvas.image.shape[1] / height
    left, _, right, bottom = where(canvas.image, choose_colour("dog"))  # its top is the label's
    for found, given in ((left, box[0]), (right, box[2]), (bottom, box[3])):
        assert abs(found - given * scale) <= 10


@pytest.mark.parametrize(
    ("height", "width", "drawn"),
    [
        (1, 1, (320, 320)),
        (1, 2000, (1, 320)),
        (32, 64, (160, 320)),
        (200, 100, (320, 160)),
        (240, 320, (240, 320)),
        (479, 640, (240, 320)),
        (4000, 3000, (320, 240)),
    ],
)
def test_a_long_side_that_is_asked_for_is_what_comes(height, width, drawn):
    canvas = Canvas(grey(height, width), 320)
    assert tuple(canvas.image.shape) == (3, *drawn) and canvas.image.dtype == torch.uint8


@pytest.mark.parametrize("side", [40, 256, 320, 500, 3000])
def test_boxes_masks_and_points_are_at_their_places_whatever_the_size_drawn(side):
    x1, x2 = side // 4, side // 4 * 3
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[:, x1:x2, x1:x2] = True
    drawings = [Canvas(grey(side, side), 320) for _ in range(3)]
    drawings[0].draw_boxes(boxes((x1, x1, x2, x2)), ["dog"], [""])
    drawings[1].draw_masks(mask, ["dog"])
    drawings[2].draw_skeleton(np.array([[x1, x1], [x2, x2]], np.float32), [True, True], [], "dog")
    for canvas in drawings:
        ys, xs = torch.where((canvas.image != 128).any(dim=0))
        assert (
            abs(int(xs.min()) - 80) <= 4
            and abs(int(xs.max()) - 240) <= 4
            and abs(int(ys.max()) - 240) <= 4
        )


def test_a_thumbnails_letters_do_not_depend_on_the_size_of_the_photograph():
    def painted(side):
        canvas = Canvas(grey(side, side), 320)
        canvas.draw_label_list(["dog"], ["dog 0.90"])
        return where(canvas.image, choose_colour("dog"))

    assert painted(320) == painted(3000) == painted(100) and painted(320)[3] >= 10


def test_lines_and_letters_grow_with_the_image():
    sizes = [
        (canvas.line, canvas.letter)
        for canvas in (Canvas(grey(side, side)) for side in (300, 1000, 2560))
    ]
    assert (
        sizes == sorted(sizes) and sizes[0][0] >= 2 and sizes[0][1] >= 12 and sizes[0] < sizes[-1]
    )


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 60, 60),
        (340, 0, 400, 60),
        (0, 240, 60, 300),
        (340, 240, 400, 300),
        (395, 295, 400, 300),
        (0, 0, 400, 300),
        (399, 150, 400, 151),
        (200, 1, 260, 299),
    ],
)
def test_a_label_at_an_edge_is_as_large_as_one_in_the_middle(box):
    def painted(at):
        """Pixels of letters: neither the background's nor the colour of lines and labels."""
        canvas = Canvas(grey(300, 400))
        canvas.draw_boxes(boxes(at), ["dog"], ["dog 0.90"])
        return (
            300 * 400
            - count(canvas.image, (128, 128, 128))
            - count(canvas.image, choose_colour("dog"))
        )

    middle = painted((150, 120, 250, 200))
    assert (
        middle > 100 and abs(painted(box) - middle) < 0.1 * middle
    )  # letters begin between pixels


def test_a_label_stands_above_its_box_and_inside_where_there_is_no_room():
    for top, above in ((150, True), (2, False)):
        canvas = Canvas(grey(300, 400))
        canvas.draw_boxes(boxes((100, top, 300, 280)), ["dog"], ["dog 0.90"])
        text = where(canvas.image, choose_text_colour(choose_colour("dog")))
        assert (text[3] < top) is above and text[1] >= 0


@pytest.mark.parametrize(
    "box", [(50, 50, 50, 50), (50, 50, 50, 120), (-30, -30, 900, 900), (390, 290, 500, 500)]
)
def test_a_box_without_extent_or_beyond_the_image_is_drawn_without_complaint(box):
    canvas = Canvas(grey(300, 400))
    canvas.draw_boxes(boxes(box), ["dog"], ["dog 0.90"])
    assert count(canvas.image, choose_colour("dog")) > 0


def test_each_box_has_the_colour_of_its_class():
    canvas = Canvas(grey(300, 400))
    canvas.draw_boxes(boxes((10, 60, 100, 200), (200, 60, 300, 200)), ["dog", "person"], ["", ""])
    assert (
        where(canvas.image, choose_colour("dog"))[2]
        < 150
        < where(canvas.image, choose_colour("person"))[0]
    )


def test_where_boxes_overlap_the_best_one_lies_on_top():
    same = boxes((100, 100, 300, 250), (100, 100, 300, 250))
    canvas = Canvas(grey(300, 400))
    canvas.draw_boxes(same, ["dog", "person"], ["", ""])
    assert canvas.image[:, 249, 200].tolist() == list(choose_colour("dog"))


@pytest.mark.parametrize("n", [1, 5, 200])
def test_labels_under_one_another_stay_inside(n):
    canvas = Canvas(grey(300, 400))
    names = [f"class {i}" for i in range(n)]
    canvas.draw_label_list(names, [f"{name} 0.50" for name in names])
    assert tuple(canvas.image.shape) == (3, 300, 400)
    assert count(canvas.image, choose_colour("class 0")) > 100


def test_a_list_of_labels_reads_from_the_best_down():
    canvas = Canvas(grey(300, 400))
    canvas.draw_label_list(["dog", "person"], ["dog 0.90", "person 0.05"])
    first, second = (
        where(canvas.image, choose_colour("dog")),
        where(canvas.image, choose_colour("person")),
    )
    assert first[0] <= 6 and first[1] <= 6 and first[3] <= second[1] + 1


@pytest.mark.parametrize("name", [*NAMES, pytest.param("two\nlines")])
def test_any_name_can_be_drawn_on_any_size(name):
    for size in ((1, 1), (300, 40)):
        canvas = Canvas(grey(*size))
        canvas.draw_boxes(boxes((0, 0, size[1], size[0])), [name], [f"{name} 0.50"])
        canvas.draw_label_list([name], [f"{name} 0.50"])
        assert canvas.image.dtype == torch.uint8


# --- colours


def test_colours_are_the_same_in_every_process():
    assert [choose_colour(name) for name in ("person", "dog", "traffic light", "")] == [
        (232, 85, 246),
        (190, 246, 85),
        (159, 11, 218),
        (218, 11, 11),
    ]


def test_names_that_are_alike_have_colours_that_are_not():
    names = [f"class {i}" for i in range(90)]
    assert len({choose_colour(name) for name in names}) > 80


@pytest.mark.parametrize("name", NAMES)
def test_a_colour_stands_out_from_grey_and_its_text_from_it(name):
    colour = choose_colour(name)
    assert all(0 <= part <= 255 for part in colour) and max(colour) - min(colour) > 100
    text = choose_text_colour(colour)
    weights = (0.299, 0.587, 0.114)
    brightness = [
        sum(w * part for w, part in zip(weights, one, strict=True)) for one in (colour, text)
    ]
    assert abs(brightness[0] - brightness[1]) > 100


@pytest.mark.parametrize(
    ("background", "text"),
    [
        ((0, 0, 0), (255, 255, 255)),
        ((255, 255, 255), (0, 0, 0)),
        ((255, 255, 0), (0, 0, 0)),
        ((0, 0, 255), (255, 255, 255)),
    ],
)
def test_text_is_black_on_light_and_white_on_dark(background, text):
    assert choose_text_colour(background) == text
