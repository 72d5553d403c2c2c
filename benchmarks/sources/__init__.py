"""Measurements of the sources that users load."""
