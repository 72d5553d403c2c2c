"""Measurements that the documentation quotes. Run them from a clone with `python -m benchmarks NAME`."""
