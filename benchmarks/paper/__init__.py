"""Scripts that measure the paper's tables and figures, one module each."""
