"""How right a finished run is, beside annotations. Reads tables and truth, no model."""
