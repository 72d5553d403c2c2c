"""The memory of the machine is a limit for numbers that a caller asks for."""

import os

from hyperinit.files.room import memory


def test_the_memory_is_that_of_the_system(monkeypatch):
    assert memory() > 2**28
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 3, "SC_PAGE_SIZE": 5}.get)
    assert memory() == 15


def test_a_system_that_does_not_tell_counts_as_16_gib(monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert memory() == 2**34
