"""The user's module: its wrappers, its state, and writing all of its parameters or none."""
