"""Find what changed between two runs over the same images."""
