"""Writes files in one step, validates the headers of tensor files, and manages the cache folder."""
