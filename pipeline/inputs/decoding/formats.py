"""The suffixes of image files that are listed, and the formats that are decoded."""

# Suffixes of the files that a source lists as images. JPEG 2000 is not decoded, and HEIF and
# JPEG XL only if their packages are installed: such a file gets a row with the status UNSUPPORTED.
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif",
    ".tiff", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".hif", ".jp2", ".jxl",
))  # fmt: skip

# Pillow's names of the formats of photographs and screenshots. Not included are formats that run
# code or external programs (EPS), contain documents (PSD, PDF) or measurements (FITS), and
# JPEG 2000, because its decoder has had the most security faults.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")

HEIF, JPEG_XL = "HEIF", "JPEG XL"  # formats of `optional_formats`
