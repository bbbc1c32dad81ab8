"""Fit text into a number of pixels."""

from PIL import ImageFont


def get_line_height(font_size: int) -> int:
    """Return the distance between the baselines of two lines of text, in pixels."""
    return round(font_size * 1.4)


def truncate_start(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Cut off the start of a text that does not fit into `width` pixels, and put … there.

    The end of a path is kept, because it has the last folders and the file's name.
    """
    if font.getlength(text) <= width:
        return text
    end = text[-width // 2 :]  # no letter is narrower than two pixels
    while font.getlength("…" + end) > width:
        end = end[1:]
    return "…" + end


def wrap_text(text: str, font: ImageFont.FreeTypeFont, width: int, max_lines: int) -> list[str]:
    """Break a text into lines of at most `width` pixels.

    Lines are broken at spaces; a word longer than a line is split. A text that needs more than
    `max_lines` lines is cut, and its last line ends with ….
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
