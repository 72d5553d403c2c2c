"""Find, read and inspect a folder of the user's checkpoints, and convert it to a zoo."""
