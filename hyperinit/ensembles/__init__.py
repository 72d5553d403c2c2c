"""Several networks as one module, their joint forward pass, and their file."""
