"""The user's module: what wraps it, what state it is in, and how its parameters are written, all or none."""
