import numpy as np
import pytest

from pipeline.training.synthetic.fonts_and_words import (
    TRAINING,
    VALIDATION,
    random_digits,
    render_text,
)


def test_validation_has_fonts_and_words_of_its_own():
    assert not set(TRAINING.fonts) & set(VALIDATION.fonts) and VALIDATION.fonts
    assert not set(TRAINING.words) & set(VALIDATION.words) and VALIDATION.words


@pytest.mark.parametrize("font", TRAINING.fonts + VALIDATION.fonts)
def test_every_font_writes_letters_and_digits(font):
    one, many = render_text("I", 20, font), render_text("HAMBURG 019", 20, font)
    assert one.max() == 255 and many.max() > 200
    assert many.shape[1] > 4 * one.shape[1] and 8 <= many.shape[0] <= 30


@pytest.mark.parametrize("count", [0, 1, 12])
def test_digits_are_as_many_as_asked_for(count):
    found = random_digits(np.random.default_rng(0), count)
    assert len(found) == count and set(found) <= set("0123456789")


def test_stretched_text_is_wider():
    assert (
        render_text("WIDE", 20, TRAINING.fonts[0], 1.5).shape[1]
        > 1.3 * render_text("WIDE", 20, TRAINING.fonts[0]).shape[1]
    )


def test_no_text_is_an_image_of_nothing():
    assert render_text("", 20, TRAINING.fonts[0]).max() == 0
