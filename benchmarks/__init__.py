"""Measurements that the documentation quotes; run from a clone with `python -m benchmarks NAME`."""
