"""Speed: what people would use instead, timed in the same process on the same cores; `make bench`."""
