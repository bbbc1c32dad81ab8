"""Helpers for tests: sample data, pictures, settings, finished runs, servers, reference loops."""
