"""What changed between two runs over the same images."""
