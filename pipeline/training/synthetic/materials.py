"""Draw materials: the surfaces of labels, and backgrounds where there are no photographs."""

from collections.abc import Callable

import cv2
import numpy as np

Colour = tuple[int, int, int]


def random_colour(
    rng: np.random.Generator, low: float = 0, high: float = 255, saturation: float = 1.0
) -> Colour:
    """Draw a colour, greyish to vivid, whose brightest channel is between `low` and `high`."""
    draws = rng.random(6).tolist()
    value, part = low + (high - low) * draws[0], saturation * draws[1] * draws[2]
    least, most = min(draws[3:]), max(draws[3:])
    red, green, blue = (
        int(value * (1 - part * (most - number) / (most - least + 1e-9))) for number in draws[3:]
    )
    return red, green, blue


def fill_plain(size_hw: tuple[int, int], fill: Colour) -> np.ndarray:
    canvas = np.empty((*size_hw, 3), np.uint8)
    # Much faster than numpy's broadcasting over three channels.
    return cv2.rectangle(canvas, (0, 0), (size_hw[1], size_hw[0]), fill, -1)


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Apply a Gaussian blur. A wide blur is computed on a smaller picture, which is much faster."""
    shrink = int(sigma / 1.5)
    height, width = picture.shape[:2]
    if shrink < 2 or min(height, width) < 8 * shrink:
        return cv2.GaussianBlur(picture, (0, 0), sigma)
    small = cv2.resize(picture, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA)
    return cv2.resize(
        cv2.GaussianBlur(small, (0, 0), sigma / shrink),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )


def smooth_noise(
    rng: np.random.Generator, size_hw: tuple[int, int], cells: tuple[int, int], channels: int = 1
) -> np.ndarray:
    """Draw smooth noise from 0 to 1. `cells` is its resolution (down, across).

    Returns:
        (H, W) or (H, W, channels) float32.
    """
    small = rng.random((max(2, cells[0]), max(2, cells[1]), channels), np.float32)
    size = (size_hw[1], size_hw[0])
    between = (
        min(size[0], 6 * small.shape[1]),
        min(size[1], 6 * small.shape[0]),
    )  # cubic interpolation is slow, so it only makes a picture of intermediate size
    curved = np.clip(cv2.resize(small, between, interpolation=cv2.INTER_CUBIC), 0, 1)
    return curved if between == size else cv2.resize(curved, size, interpolation=cv2.INTER_LINEAR)


def mix_colours(shade: np.ndarray, dark: Colour, light: Colour) -> np.ndarray:
    """Mix two colours: shade (H, W), 0 to 1 or uint8 -> (H, W, 3) uint8."""
    if shade.dtype != np.uint8:
        shade = (np.clip(shade, 0, 1) * 255).astype(np.uint8)
    steps = np.linspace(0, 1, 256)[:, None]
    table = (np.array(dark) * (1 - steps) + np.array(light) * steps).astype(np.uint8)
    return cv2.LUT(cv2.merge([shade] * 3), table[None])


def fine_noise(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Cut independent noise from a precomputed array: (H, W) float32, -0.5 to 0.5."""
    height, width = min(size_hw[0], 1000), min(size_hw[1], 1000)
    top, left = int(rng.integers(0, 1024 - height)), int(rng.integers(0, 1024 - width))
    piece = _noise_bank()[top : top + height, left : left + width]
    return piece if (height, width) == size_hw else cv2.resize(piece, (size_hw[1], size_hw[0]))


def sensor_noise(rng: np.random.Generator, size_hw: tuple[int, int], coloured: bool) -> np.ndarray:
    """Cut sensor noise from a precomputed array: (H, W, 3) uint8 around 128, sides up to 1000.

    The channels are equal unless `coloured`.
    """
    top, left = int(rng.integers(0, 1024 - size_hw[0])), int(rng.integers(0, 1024 - size_hw[1]))
    if "coloured" not in _BANKS:
        grey = (_noise_bank() * 255 + 128).astype(np.uint8)
        _BANKS["coloured"] = cv2.merge(
            [grey, np.ascontiguousarray(grey[::-1]), np.ascontiguousarray(grey[:, ::-1])]
        )
        _BANKS["grey"] = cv2.merge([grey] * 3)
    return _BANKS["coloured" if coloured else "grey"][
        top : top + size_hw[0], left : left + size_hw[1]
    ]


_BANKS: dict[str, np.ndarray] = {}


def _noise_bank() -> np.ndarray:
    if "grain" not in _BANKS:
        _BANKS["grain"] = np.random.default_rng(20).random((1024, 1024), np.float32) - np.float32(
            0.5
        )
    return _BANKS["grain"]


def _render_paper(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    shade = (
        0.75
        + 0.2 * smooth_noise(rng, size_hw, (4, 4))
        + rng.uniform(0, 0.12) * fine_noise(rng, size_hw)
    )
    return mix_colours(shade, (0, 0, 0), random_colour(rng, 190, 255, 0.25))


def _render_metal(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw brushed metal: noise stretched in one direction."""
    across = rng.random() < 0.5
    brush = cv2.resize(
        fine_noise(rng, (size_hw[0], max(4, size_hw[1] // 40))), (size_hw[1], size_hw[0])
    )
    if across:
        brush = cv2.resize(
            fine_noise(rng, (max(4, size_hw[0] // 40), size_hw[1])), (size_hw[1], size_hw[0])
        )
    shade = 0.5 + rng.uniform(0.1, 0.45) * brush + 0.5 * (smooth_noise(rng, size_hw, (3, 3)) - 0.5)
    return mix_colours(shade, random_colour(rng, 20, 90, 0.2), random_colour(rng, 150, 250, 0.2))


def _render_wood(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    wave = smooth_noise(rng, size_hw, (3, 12) if rng.random() < 0.5 else (12, 3))
    rings = 0.5 + 0.5 * np.sin(wave * rng.uniform(20, 90))
    shade = 0.7 * rings + 0.3 * smooth_noise(rng, size_hw, (40, 8)) + 0.2 * fine_noise(rng, size_hw)
    dark = random_colour(rng, 40, 140)
    red, green, blue = (min(255, int(channel * rng.uniform(1.1, 1.8))) for channel in dark)
    return mix_colours(shade, dark, (red, green, blue))


def _render_fabric(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    y, x = np.ogrid[: size_hw[0], : size_hw[1]]
    step = rng.uniform(2.5, 9)
    weave = np.sin(x * 2 * np.pi / step) * np.sin(y * 2 * np.pi / step * rng.uniform(0.8, 1.25))
    shade = (
        0.5
        + 0.25 * weave.astype(np.float32)
        + 0.3 * fine_noise(rng, size_hw)
        + 0.4 * (smooth_noise(rng, size_hw, (4, 5)) - 0.5)
    )
    return mix_colours(shade, random_colour(rng, 0, 120), random_colour(rng, 80, 255))


def _render_stone(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw noise of several sizes: stone, asphalt, cardboard, carpets."""
    shade = np.full(size_hw, 0.5, np.float32)
    size = 4
    while size < max(size_hw):
        shade += rng.uniform(0, 0.5) * (smooth_noise(rng, size_hw, (size, size)) - 0.5)
        size *= int(rng.integers(2, 5))
    shade += rng.uniform(0, 0.5) * fine_noise(rng, size_hw)
    return mix_colours(shade, random_colour(rng, 0, 130), random_colour(rng, 100, 255))


def _render_gradient(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    corners = np.array([[random_colour(rng) for _ in range(2)] for _ in range(2)], np.uint8)
    return cv2.resize(corners, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)


def _render_blobs(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw smooth coloured noise, like a background far out of focus."""
    cells = tuple(int(number) for number in rng.integers(2, 14, 2))
    small = (smooth_noise(rng, (64, 64), (cells[0], cells[1]), 3) * 255).astype(np.uint8)
    return cv2.resize(small, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)


def _render_plain(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    return fill_plain(size_hw, random_colour(rng))


def _render_room(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw polygons and ellipses over a material, like surfaces and things in a room."""
    height, width = size_hw
    scene = render_material(rng, size_hw, room=False)
    for _ in range(int(rng.integers(2, 12))):
        centre = rng.uniform(0, 1, 2) * (width, height)
        reach = rng.uniform(0.05, 0.6) * max(size_hw)
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
        points = centre + reach * np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(
            0.4, 1, (len(angles), 1)
        )
        fill = random_colour(rng)
        if rng.random() < 0.3:
            axes = (int(reach), int(reach * rng.uniform(0.2, 1)))
            cv2.ellipse(
                scene,
                (int(centre[0]), int(centre[1])),
                axes,
                rng.uniform(0, 180),
                0,
                360,
                fill,
                -1,
                cv2.LINE_AA,
            )
        else:
            cv2.fillPoly(scene, [points.astype(np.int32)], fill, cv2.LINE_AA)
    if rng.random() < 0.6:
        scene = blur(scene, rng.uniform(0.5, 6))
    return scene


_MATERIALS: tuple[
    tuple[Callable[[np.random.Generator, tuple[int, int]], np.ndarray], float], ...
] = (
    (_render_paper, 0.16),
    (_render_metal, 0.1),
    (_render_wood, 0.12),
    (_render_fabric, 0.08),
    (_render_stone, 0.2),
    (_render_gradient, 0.1),
    (_render_blobs, 0.12),
    (_render_plain, 0.12),
)


def render_material(
    rng: np.random.Generator, size_hw: tuple[int, int], room: bool = True
) -> np.ndarray:
    """Draw a random material, (H, W, 3) uint8.

    With `room`, the picture sometimes shows several things in a room.
    """
    if room and rng.random() < 0.45:
        return _render_room(rng, size_hw)
    makers, shares = zip(*_MATERIALS, strict=True)
    return makers[int(rng.choice(len(makers), p=shares))](rng, size_hw)


def render_metal(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    return _render_metal(rng, size_hw)


def render_circuit_board(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw a circuit board: traces, pads and chips on green, blue, black or red."""
    base = [(20, 80, 40), (15, 40, 90), (25, 25, 28), (110, 20, 25), (5, 60, 55)][
        int(rng.integers(0, 5))
    ]
    red, green, blue = (channel // 2 for channel in base)
    cloudy = 0.5 + 0.5 * smooth_noise(rng, size_hw, (3, 3))
    scene = mix_colours(cloudy, (red, green, blue), base)
    height, width = size_hw
    trace = tuple(min(255, number + 40) for number in base)
    for _ in range(int(rng.integers(8, 30))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        bend = int(rng.integers(-width // 3, width // 3 + 1))
        points = np.array(
            [(x, y), (x + bend, y), (x + 2 * bend, y + abs(bend)), (x + 2 * bend, y + height)]
        )
        cv2.polylines(
            scene, [points.astype(np.int32)], False, trace, max(1, width // 150), cv2.LINE_AA
        )
    for _ in range(int(rng.integers(3, 14))):
        x, y, step = (
            int(rng.integers(0, width)),
            int(rng.integers(0, height)),
            max(3, int(width * rng.uniform(0.015, 0.05))),
        )
        for pad in range(int(rng.integers(2, 9))):
            left = x + pad * step
            cv2.rectangle(scene, (left, y), (left + step // 2, y + step), (190, 180, 140), -1)
    for _ in range(int(rng.integers(0, 5))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = (int(number) for number in rng.uniform(0.05, 0.3, 2) * (width, height))
        cv2.rectangle(scene, (x, y), (x + w, y + h), (30, 30, 32), -1)
    return scene
