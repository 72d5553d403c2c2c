"""Processes, devices, precision, and the files of a training run."""
