"""Helpers that tests import: data, pictures, runs through the shipped configuration, plain reference loops."""
