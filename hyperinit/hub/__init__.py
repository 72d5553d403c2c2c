"""Finds the file of a source: embedded, cached or downloaded. Also writes registries."""
