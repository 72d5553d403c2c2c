"""What a loader may yield, and the accuracy on its batches."""

import pytest
import torch
from torch import nn

from hyperinit.batches.loaders import accuracy, check_loader, count_right, inputs_of, labelled, outputs_of, read
from hyperinit.errors import ArgumentError, BatchError

X, Y = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("loader", [[X], (X,), iter([X]), torch.utils.data.DataLoader([1])])
def test_anything_that_yields_is_a_loader(loader):
    check_loader("select", loader)


@pytest.mark.parametrize(("loader", "got"), [
    (5, "int"), (X, "Tensor"), (len, "builtin_function_or_method"), ("x", "str"), (b"x", "bytes"), ({"x": X}, "dict"),
    (nn.Sequential(nn.ReLU()), "Sequential"),
])  # fmt: skip
def test_what_yields_no_batches_is_refused(loader, got):
    with pytest.raises(ArgumentError, match=rf"^select must be an iterable of batches, .*, got {got}$"):
        check_loader("select", loader)


@pytest.mark.parametrize("loader", [[], iter(())])
def test_an_empty_loader_is_refused(loader):
    with pytest.raises(ArgumentError, match="must yield at least one batch, got none"):
        list(read(loader))


@pytest.mark.parametrize("batch", [X, (X,), [X, Y], (X, "names")])
def test_inputs_are_the_batch_or_its_first_item(batch):
    assert inputs_of(batch) is X


@pytest.mark.parametrize(
    ("batch", "got"),
    [({"x": X}, "dict"), ((), "tuple of nothing"), ([5, X], "list of int, Tensor"), (None, "NoneType")],
)
def test_other_batches_are_refused(batch, got):
    with pytest.raises(ArgumentError, match=rf"^a batch must be a tensor, .*, got {got}$"):
        inputs_of(batch)


@pytest.mark.parametrize(
    ("batch", "got"), [(X, r"float32 \(4, 3\)"), ((X,), "tuple of Tensor"), ([X, 5], "list of Tensor, int")]
)
def test_a_labelled_batch_has_inputs_and_labels(batch, got):
    assert labelled((X, Y, "names")) == (X, Y)
    with pytest.raises(ArgumentError, match=rf"^a labelled batch must be .*, got {got}$"):
        labelled(batch)


def test_right_answers_are_counted_for_every_leading_dimension():
    outputs = torch.stack([torch.eye(3)[[0, 1, 2, 0]], torch.eye(3)[[0, 0, 0, 0]]])
    assert count_right(outputs, Y).tolist() == [4, 2]
    assert count_right(outputs, Y.to(torch.uint8)).tolist() == [4, 2]


def test_nan_is_no_answer():
    assert count_right(torch.full((2, 3), float("nan")), torch.tensor([0, 0])) == 0


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (torch.zeros(4, 1), Y, r"^the module must return logits \(B, C\) .*, got float32 \(4, 1\); .* a regression$"),
        (torch.zeros(4), Y, r"got float32 \(4,\)"),
        ((X, X), Y, "got tuple of Tensor, Tensor"),
        (X, Y.float(), r"^labels must be class indices, integers \(B,\), got float32 \(4,\)$"),
        (X, Y[:, None], r"got int64 \(4, 1\)"),
        (X, Y > 0, r"got bool \(4,\)"),
        (X, Y[:3], r"must be of one length, got float32 \(4, 3\) and int64 \(3,\)$"),
        (X, Y + 1, r"^labels must be in 0\.\.2, got 1\.\.3$"),
        (X, Y - 1, r"^labels must be in 0\.\.2, got -1\.\.1$"),
    ],
)
def test_what_has_no_accuracy_is_told_apart(outputs, labels, message):
    with pytest.raises(ArgumentError, match=message):
        count_right(outputs, labels)


def test_accuracy_counts_inputs_evenly_in_evaluation_mode_and_keeps_the_mode():
    net = nn.Dropout(0.999)
    batches = [(torch.eye(3), torch.arange(3)), (torch.eye(3)[:1], torch.tensor([1]))]
    assert accuracy(net, batches) == 0.75
    assert net.training


def test_accuracy_of_nothing_is_refused():
    for batches in ([], [(X[:0], Y[:0])]):
        with pytest.raises(ArgumentError, match="needs at least one labelled input"):
            accuracy(nn.Identity(), batches)


class Failing(nn.Module):
    """Fails in its own way."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


class OwnError(RuntimeError):
    """Of the user's."""


@pytest.mark.parametrize("error", [TypeError("no"), ValueError("no"), RuntimeError("no\nmore"), KeyError("no")])
def test_a_batch_that_a_module_fails_on_is_named(error):
    with pytest.raises(BatchError, match=r"^batch 3 must be inputs that .*, got float32 \(4, 3\): '?no'?; ") as found:
        outputs_of(Failing(error), X, 3)
    assert found.value.__cause__ is error
    assert isinstance(found.value, ArgumentError | RuntimeError)


@pytest.mark.parametrize(
    "error", [OwnError("no"), torch.cuda.OutOfMemoryError("no"), MemoryError(), KeyboardInterrupt()]
)
def test_other_errors_pass_through(error):
    with pytest.raises(type(error)) as found:
        outputs_of(Failing(error), X, 3)
    assert found.value is error
