"""Fixtures for several rooms of the library's tests."""

import pytest
import torch


@pytest.fixture
def _global_generator_is_put_back():
    """Start from a known state of torch's global generator, and give it its old state back after the test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        yield


@pytest.fixture
def default_dtype():
    """Set torch's default dtype, which gets its old value back after the test."""
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)
