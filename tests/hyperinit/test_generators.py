"""Which generator draws take, and that neither other threads nor the caller's settings have an influence."""

import threading

import pytest
import torch
from seeds import gen
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.generators import check_generator, cpu_random, global_unmoved, settled, undrawn

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


# Draws in several threads


DRAWS = {
    "rand": lambda: torch.rand(5),
    "randn": lambda: torch.randn(40),
    "randint": lambda: torch.randint(9, (5,)),
    "randint-low": lambda: torch.randint(3, 9, (5,)),
    "randperm": lambda: torch.randperm(50),
    "rand_like": lambda: torch.rand_like(torch.zeros(5)),
    "randn_like": lambda: torch.randn_like(torch.zeros(40, dtype=torch.float64)),
    "randint_like": lambda: torch.randint_like(torch.zeros(5), 7),
    "randint_like-low": lambda: torch.randint_like(torch.zeros(5), 3, 7),
    "out": lambda: torch.rand(4, out=torch.empty(4)),
    "uniform_": lambda: torch.empty(5).uniform_(),
    "exponential_": lambda: torch.empty(5).exponential_(),
    "normal": lambda: torch.normal(0.0, 1.0, (5,)),
    "bernoulli": lambda: torch.bernoulli(torch.full((20,), 0.5)),
    "multinomial": lambda: torch.multinomial(torch.ones(20), 5),
    "poisson": lambda: torch.poisson(torch.ones(9)),
    "dropout": lambda: nn.functional.dropout(torch.ones(50)),
    "linear": lambda: nn.Linear(20, 30).weight.detach(),
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(7, 7)),
    "truncated": lambda: nn.init.trunc_normal_(torch.empty(50)),
    "rrelu": lambda: nn.functional.rrelu(-torch.ones(9), training=True),
}


@pytest.mark.parametrize("name", DRAWS)
def test_every_kind_of_draw_gives_the_numbers_of_a_seeded_global_generator_and_leaves_that_one(name):
    seed = int(torch.randint(2**63 - 1, (1,), generator=gen()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = DRAWS[name]()
    before = torch.get_rng_state()
    with cpu_random(gen()):
        assert torch.equal(DRAWS[name](), expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("manager", [cpu_random, global_unmoved])
def test_another_thread_is_not_disturbed(manager):
    torch.manual_seed(5)
    expected = [torch.rand(3) for _ in range(4)]
    torch.manual_seed(5)
    inside, outside, found = threading.Barrier(2), threading.Barrier(2), []

    def other():
        for _ in range(4):
            inside.wait()
            found.append(torch.rand(3))
            outside.wait()

    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(4):
        with manager(gen()):
            torch.rand(7)
            inside.wait()
            outside.wait()
    thread.join()
    assert all(torch.equal(got, wanted) for got, wanted in zip(found, expected, strict=True))


def test_a_generator_given_inside_the_block_is_used():
    with cpu_random(gen()):
        assert torch.equal(torch.rand(3, generator=gen(1)), torch.rand(3, generator=gen(1)))


def test_a_seed_set_inside_the_block_does_not_move_the_global_generator():
    before = torch.get_rng_state()
    with undrawn():
        torch.manual_seed(9)
        torch.rand(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_that_another_thread_sets_and_draws_from_stays():
    def other():
        torch.manual_seed(9)
        found.append(torch.rand(1))

    found = []
    with undrawn():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    found.append(torch.rand(1))
    assert torch.equal(torch.cat(found), torch.rand(2, generator=gen(9)))


def test_only_a_generator_on_the_cpu_is_accepted():
    check_generator(None)
    with pytest.raises(ArgumentError, match=r"generator must be a torch\.Generator or None, got int"):
        check_generator(5)


@pytest.mark.gpu
def test_a_generator_on_a_gpu_is_refused():
    with pytest.raises(ArgumentError, match="generator must be on the CPU, where all draws happen, got one on cuda"):
        check_generator(torch.Generator("cuda"))


# The caller's settings


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_new_tensors_are_float32_whatever_the_default_dtype(default_dtype, dtype):
    default_dtype(dtype)
    whole = torch.arange(4)
    with settled():
        made = [
            torch.rand(2), torch.zeros(2), torch.tensor([1.0]), torch.tensor([[1, 2.0]]), torch.tensor([]),
            torch.full((2,), 1.5), torch.arange(0.0, 1.0, 0.5), torch.linspace(0, 1, 3), torch.eye(2),
            torch.normal(0.0, 1.0, (3,)), whole / 2, whole * 0.5, whole.sqrt(), nn.Linear(2, 2).weight,
        ]  # fmt: skip
        asked = [whole.double(), torch.zeros(2, dtype=torch.float64), torch.zeros(2).double() / 2]
        kept = [torch.tensor(1), torch.full((2,), 1), whole + 1]
    assert {value.dtype for value in made} == {torch.float32}
    assert {value.dtype for value in asked} == {torch.float64}
    assert {value.dtype for value in kept} == {torch.int64}
    assert torch.zeros(1).dtype is dtype


def test_no_mode_of_the_caller_reaches_the_block_and_all_are_in_force_after_it():
    values = torch.rand(4, 4, generator=gen())
    product = values @ values
    with torch.device("meta"), torch.autocast("cpu"), torch.inference_mode():
        with settled():
            assert torch.equal(values @ values, product)
            assert torch.zeros(2).device.type == "cpu"
            assert not torch.zeros(2).is_inference()
            assert not torch.is_grad_enabled()
        assert (values @ values).dtype == torch.bfloat16
        assert torch.zeros(2).device.type == "meta"
        assert torch.is_inference_mode_enabled()


def test_products_stay_exact_where_the_caller_allows_lower_precision():
    values = torch.randn(64, 64, generator=gen())
    exact = (values.double() @ values.double()).float()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with settled():
            assert torch.equal(values @ values, exact)
            assert torch.equal(nn.functional.linear(values, values.T), exact)
            torch.testing.assert_close(torch.cdist(values, values)[0, 1], (values[0] - values[1]).norm())
    finally:
        torch.set_float32_matmul_precision(before)


def test_another_thread_keeps_its_default_dtype(default_dtype):
    default_dtype(torch.float64)
    found = []
    with settled():
        thread = threading.Thread(target=lambda: found.append(torch.zeros(1).dtype))
        thread.start()
        thread.join()
    assert found == [torch.float64]
