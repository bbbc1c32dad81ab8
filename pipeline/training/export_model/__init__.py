"""A model of torchvision's as a program in a file, compared with what it was made of."""
