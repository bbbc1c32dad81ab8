"""What the HTML report of a finished run is made of: figures of all rows, a gallery of some, thumbnails, one page."""
