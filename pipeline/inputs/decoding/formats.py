"""Which image files are listed, and which of their formats are decoded."""

# What a source takes for an image by its name. The last four are not decoded: they get a row that
# says so.
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif",
    ".tiff", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".jp2", ".jxl",
))  # fmt: skip

# Formats of photographs and screenshots, by Pillow's names. Left out are formats that run code or
# external programs (EPS), that hold documents (PSD, PDF) or measurements (FITS), and JPEG 2000,
# whose decoder has the longest record of faults.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
