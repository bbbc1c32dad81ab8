"""Fit text into a number of pixels."""

from PIL import ImageFont


def get_line_height(font_size: int) -> int:
    """Return the pixels from one line of text to the next."""
    return round(font_size * 1.4)


def truncate_start(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return the end of a text that fits into `width` pixels, with … before it if it was cut.

    The end of a path holds its last folders and the file's number.
    """
    if font.getlength(text) <= width:
        return text
    end = text[-width // 2 :]  # no letter is narrower than two pixels
    while font.getlength("…" + end) > width:
        end = end[1:]
    return "…" + end


def wrap_text(text: str, font: ImageFont.FreeTypeFont, width: int, max_lines: int) -> list[str]:
    """Break a text into lines of at most `width` pixels.

    Lines end at blanks, or within a word that is longer than a line. A text that needs more than
    `max_lines` is cut, and its last line ends with ….
    """
    lines: list[str] = []
    while text:
        if len(lines) == max_lines:
            lines[-1] = lines[-1].rstrip()[:-2] + "…"
            break
        n = min(len(text), width // 2)
        while font.getlength(text[:n]) > width:
            n -= 1
        if n < len(text) and " " in text[1 : n + 1]:
            n = text.rfind(" ", 1, n + 1)
        lines.append(text[:n])
        text = text[n:].lstrip()
    return lines
