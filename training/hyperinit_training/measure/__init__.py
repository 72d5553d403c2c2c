"""Measure sources: accuracy, novelty, usability, and plots of a run."""
