"""What `init_` does with the user's batches: calibrate norms and select among candidates."""
