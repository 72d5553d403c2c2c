"""Which generator seeds the global one, and when the state of the global one is restored."""

import pytest
import torch
from seeds import gen

from hyperinit.generators import cpu_random, global_unmoved

pytestmark = pytest.mark.usefixtures("_global_generator_is_put_back")


def draw(generator):
    with cpu_random(generator):
        return torch.rand(3)


def test_the_generator_decides_what_is_drawn_from_the_global_one():
    first = draw(gen())
    torch.rand(1)  # moves the global generator, which must not matter
    assert torch.equal(draw(gen()), first)
    assert not torch.equal(draw(gen(1)), first)


def test_the_generator_moves_on_from_block_to_block():
    generator = gen()
    assert not torch.equal(draw(generator), draw(generator))


def test_the_global_generator_is_put_back():
    before = torch.get_rng_state()
    draw(gen())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_generator_is_put_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="shape"), cpu_random(gen()):
        torch.rand(5).reshape(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_one_decides_and_moves_on():
    before = torch.get_rng_state()
    first = draw(None)
    assert not torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)
    assert torch.equal(torch.rand(3), first)


def test_a_callers_own_draws_leave_the_global_generator_where_it_was():
    before = torch.get_rng_state()
    with global_unmoved(gen()):
        inside = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.rand(3), inside)  # the block draws the global generator's own numbers
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="shape"), global_unmoved(gen()):
        torch.rand(5).reshape(2)
    assert torch.equal(torch.get_rng_state(), before)
    with global_unmoved(None):
        torch.rand(3)
    assert not torch.equal(torch.get_rng_state(), before)
