"""Data sets: making them, and reading Metavision's layout."""
