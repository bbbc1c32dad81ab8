"""Find boxes that come again and again at one place of a camera."""
