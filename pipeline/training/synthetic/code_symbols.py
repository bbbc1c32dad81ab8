"""Codes with random contents as matrices of cells, before they are drawn."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import zxingcpp

from pipeline.training.synthetic.fonts_and_words import Typography, random_digits

QR, BARCODE, DATA_MATRIX, MARKER = 1, 2, 3, 4
_CAPITALS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
_DICTIONARIES = sorted(
    name for name in dir(cv2.aruco) if name.startswith("DICT_") and name.upper() == name
)


@dataclass(frozen=True)
class CodeSymbol:
    """A code as the standard defines it."""

    label: int
    # (rows, columns) uint8 without the quiet zone; 1: dark. All rows of a barcode are equal.
    cells: np.ndarray
    text: str  # printed beneath the code
    quiet: int  # width of the quiet zone in cells
    name: str  # of the symbology


def draw_symbol(rng: np.random.Generator, stock: Typography, label: int) -> CodeSymbol:
    return {
        QR: _random_qr,
        BARCODE: _random_barcode,
        DATA_MATRIX: _random_data_matrix,
        MARKER: _random_marker,
    }[label](rng, stock)


def _encode_cells(text: str, name: str, **options: Any) -> np.ndarray:
    code = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, name), **options)
    return (np.array(code.to_image(scale=1, add_quiet_zones=False)) < 128).astype(np.uint8)


def random_capitals(rng: np.random.Generator, least: int, most: int) -> str:
    return "".join(rng.choice(_CAPITALS, int(rng.integers(least, most + 1))))


def _random_message(rng: np.random.Generator, stock: Typography) -> str:
    kind = rng.integers(0, 5)
    if kind == 0:
        host = f"{stock.random_word(rng)}.{rng.choice(['com', 'org', 'net', 'eu'])}"
        return f"https://{host}/{random_capitals(rng, 0, 12).lower()}"

    if kind == 1:
        return random_digits(rng, int(rng.integers(1, 30)))
    if kind == 2:
        return stock.random_text(rng, int(rng.integers(1, 20)))
    if kind == 3:
        name, phone = stock.random_text(rng, 2), random_digits(rng, 11)
        website = f"{stock.random_word(rng)}.com"
        return f"BEGIN:VCARD\nN:{name}\nTEL:+{phone}\nURL:{website}\nEND:VCARD"

    return random_capitals(rng, 1, 40)


def _random_qr(rng: np.random.Generator, stock: Typography) -> CodeSymbol:
    level = str(rng.choice(["L", "M", "Q", "H"]))
    if rng.random() < 0.06:
        return CodeSymbol(
            QR,
            _encode_cells(random_digits(rng, int(rng.integers(1, 15))), "MicroQRCode"),
            "",
            2,
            "MicroQRCode",
        )
    text = _random_message(rng, stock)
    if rng.random() < 0.25:
        text += random_capitals(rng, 50, 300)
    return CodeSymbol(
        QR, _encode_cells(text, "QRCode", ec_level=level), text.splitlines()[0][:24], 4, "QRCode"
    )


def _random_data_matrix(rng: np.random.Generator, stock: Typography) -> CodeSymbol:
    kind = rng.random()
    if kind < 0.2:  # the rectangular sizes
        version = int(rng.integers(25, 31))  # 8x18, 8x32, 12x26, 12x36, 16x36, 16x48
        text = random_capitals(rng, 1, 5 if version == 25 else 10)
        cells = _encode_cells(text, "DataMatrix", version=version)
    else:
        text = random_capitals(rng, 1, 14) if kind < 0.7 else _random_message(rng, stock)
        if kind > 0.92:
            text += random_capitals(rng, 60, 250)
        cells = _encode_cells(text, "DataMatrix", force_square=True)
        if cells.shape[0] != cells.shape[1]:
            cells = _encode_cells(text, "DataMatrix", version=int(rng.integers(10, 16)))
    return CodeSymbol(DATA_MATRIX, cells, text.splitlines()[0][:16], 1, "DataMatrix")


def _random_barcode(rng: np.random.Generator, stock: Typography) -> CodeSymbol:
    names = (
        "EAN13",
        "UPCA",
        "Code128",
        "Code39",
        "ITF",
        "EAN8",
        "UPCE",
        "Codabar",
        "Code93",
        "DataBarOmni",
        "DataBarExp",
    )
    name = str(
        rng.choice(names, p=(0.27, 0.15, 0.2, 0.1, 0.08, 0.05, 0.05, 0.03, 0.03, 0.02, 0.02))
    )
    text = _random_barcode_text(rng, name)
    printed = text
    if name == "EAN13" and rng.random() < 0.15:  # the EAN of a book or a magazine
        text = (
            f"978{random_digits(rng, 9)} {random_digits(rng, 5)}"
            if rng.random() < 0.7
            else f"{random_digits(rng, 12)} {random_digits(rng, 2)}"
        )
        printed = text.split()[0] + random_digits(rng, 1) + "   " + text.split()[1]
    return CodeSymbol(BARCODE, _encode_cells(text, name), printed, 10, name)


def _random_barcode_text(rng: np.random.Generator, name: str) -> str:
    lengths = {"EAN13": 12, "UPCA": 11, "EAN8": 7, "DataBarOmni": 13}
    if name in lengths:
        return random_digits(rng, lengths[name])
    if name == "UPCE":  # not every number has a short form; digits from 3 to 9 make sure of it
        return "0" + "".join(map(str, rng.integers(3, 10, 5))) + random_digits(rng, 1)
    if name == "ITF":
        return random_digits(rng, 2 * int(rng.integers(2, 12)))
    if name == "Codabar":
        return f"A{random_digits(rng, int(rng.integers(4, 14)))}B"
    if name == "Code128" and rng.random() < 0.5:
        return random_digits(rng, 2 * int(rng.integers(2, 14)))
    batch = "(10)" if name == "DataBarExp" else ""  # DataBar Expanded encodes GS1 elements
    return batch + random_capitals(rng, 3, 24 if name == "Code128" else 14)


def _random_marker(rng: np.random.Generator, stock: Typography) -> CodeSymbol:
    dictionary = _load_dictionary(str(rng.choice(_DICTIONARIES)))
    number = int(rng.integers(0, min(len(dictionary.bytesList), 1000)))
    border = 1 if rng.random() < 0.93 else 2
    side = dictionary.markerSize + 2 * border
    image = cv2.aruco.generateImageMarker(dictionary, number, side, borderBits=border)
    return CodeSymbol(MARKER, (image < 128).astype(np.uint8), f"id {number}", 1, "marker")


@lru_cache
def _load_dictionary(name: str) -> Any:
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
