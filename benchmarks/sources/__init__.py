"""Measurements of the embedded sources."""
