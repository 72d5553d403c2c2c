"""Several networks as one module, side by side, and the file that holds them."""
