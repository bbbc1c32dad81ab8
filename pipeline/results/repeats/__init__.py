"""Find boxes that recur at the same place in the images of one camera."""
