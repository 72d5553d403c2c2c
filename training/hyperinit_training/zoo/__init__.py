"""A zoo of trained networks as one matrix of weights, and its statistics."""
