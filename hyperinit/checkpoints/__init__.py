"""Read the networks in checkpoint files that any training loop wrote, and take them as a source."""
