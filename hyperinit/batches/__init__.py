"""The user's batches: calibrate norms and select among candidates."""
