"""Verbs that only read finished runs: no model, no GPU."""
