"""Folders of the user's checkpoints: find, read, inspect, and turn them into a zoo."""
