import pytest
import torch
from seeds import gen
from torch import nn

from hyperinit_training.measure.finetune import accuracy, epochs_of, fit


def linear():
    """Ten features to three classes, weights zero."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 3, device="meta").to_empty(device="cpu"))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


@pytest.fixture(scope="module")
def task():
    """Three Gaussian blobs, 200 images of 1 x 2 x 5."""
    y = torch.randint(3, (200,), generator=gen(1))
    x = torch.randn(200, 10, generator=gen(2)) + 3 * torch.eye(3, 10)[y]
    return x.view(200, 1, 2, 5), y


def test_accuracy_equals_counting_one_by_one(task):
    x, y = task
    model = fit(linear(), x, y, epochs=1, rate=1e-2, batch=16, generator=gen())
    right = sum(model(x[i : i + 1]).argmax().item() == y[i].item() for i in range(200))
    assert accuracy(model, x, y) == pytest.approx(right / 200)


def test_accuracy_counts_across_its_chunks_evenly():
    """2,500 images are two chunks of unlike size; a mean of their means would say 0.9."""
    x, y = torch.zeros(2500, 2), torch.zeros(2500, dtype=torch.int64)
    x[:2000, 0] = x[2000:, 1] = 1
    assert accuracy(nn.Identity(), x, y) == pytest.approx(0.8)


def test_accuracy_measures_in_evaluation_mode():
    x = torch.eye(4).repeat(50, 1)
    assert accuracy(nn.Dropout(0.9), x, x.argmax(1)) == 1


@pytest.mark.usefixtures("_global_generator_unmoved")
def test_training_learns_and_is_decided_by_its_generator(task):
    def trained(seed):
        return fit(linear(), *task, epochs=3, rate=1e-2, batch=16, generator=gen(seed))[1].weight

    first, again, other = trained(0), trained(0), trained(1)
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-4
    model = linear()
    before = accuracy(model, *task)
    assert accuracy(fit(model, *task, epochs=3, rate=1e-2, batch=16, generator=gen()), *task) > max(0.9, before + 0.3)


def test_training_equals_a_loop_written_out(task):
    x, y = task
    model, expected, generator = linear(), linear(), gen()
    optimizer = torch.optim.Adam(expected.parameters(), 1e-2)
    for _ in range(2):
        order = torch.randperm(200, generator=generator)
        for start in range(0, 200, 64):  # the last batch has 8 images
            rows = order[start : start + 64]
            optimizer.zero_grad()
            nn.functional.cross_entropy(expected(x[rows]), y[rows]).backward()
            optimizer.step()
    fit(model, x, y, epochs=2, rate=1e-2, batch=64, generator=gen())
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=1e-6)


def test_one_may_look_in_between_without_changing_the_result(task):
    model, expected = linear(), fit(linear(), *task, epochs=3, rate=1e-2, batch=64, generator=gen())
    seen = []
    for epoch in epochs_of(model, *task, epochs=3, rate=1e-2, batch=64, generator=gen()):
        seen.append((epoch, accuracy(model, *task)))
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert len({found for _, found in seen}) > 1
    assert torch.equal(model[1].weight, expected[1].weight)


def test_training_goes_back_to_training_mode():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Dropout(0.5)).eval()
    x, y = torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64)
    modes = [model.training for _ in epochs_of(model, x, y, epochs=1, rate=0.1, batch=4, generator=gen())]
    assert modes == [True]
