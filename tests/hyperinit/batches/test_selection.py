"""Selection: the best candidate stays, the first of equals, and a failure changes nothing."""

import pytest
import torch
from seeds import gen
from torch import nn

import hyperinit
from hyperinit.batches import selection
from hyperinit.batches.kept import Kept
from hyperinit.batches.loaders import accuracy
from hyperinit.batches.selection import best, candidates
from hyperinit.errors import ArgumentError, BatchError
from hyperinit.nets import cnn

DRAWS = 6


@pytest.fixture
def drawn(tiny):
    return tiny.sample(DRAWS, generator=gen())


@pytest.fixture
def batches(tiny, drawn):
    """Images that the fourth network labels; the others are less often right."""
    images = torch.randn(60, 1, 28, 28, generator=gen(1))
    with torch.no_grad():
        labels = tiny.build_model(drawn[3])(images).argmax(1)
    return list(zip(images.split(25), labels.split(25), strict=True))


def vector(model):
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def tensors(net):
    return [value.detach().clone() for value in (*net.parameters(), *net.buffers())]


def normed():
    return nn.Sequential(*cnn()[:1], nn.BatchNorm2d(8), *cnn()[1:])


def test_the_most_accurate_candidate_stays(tiny, drawn, batches):
    model = cnn().eval()
    assert hyperinit.init_(model, tiny, select=batches, oversample=DRAWS, generator=gen()) is model
    assert torch.equal(vector(model), drawn[3])
    assert not model.training
    scores = [accuracy(tiny.build_model(row), batches) for row in drawn]
    assert scores[3] == 1 > max(scores[:3] + scores[4:])  # the draws differ on these images


def test_of_equals_the_first_stays(tiny, drawn, batches):
    images, _ = batches[0]
    with torch.no_grad():
        never = next(label for label in range(10) for nets in [[tiny.build_model(row) for row in drawn]]
                     if all((net(images).argmax(1) != label).all() for net in nets))  # fmt: skip
    wrong = [(images, torch.full((len(images),), never))]
    model = hyperinit.init_(cnn(), tiny, select=wrong, oversample=DRAWS, generator=gen())
    assert torch.equal(vector(model), drawn[0])


def test_best_keeps_the_order_and_the_first_of_equals():
    scored = [(0.5, "a"), (0.9, "b"), (0.5, "c"), (0.7, "d"), (0.5, "e")]
    assert best(iter(scored), 3) == ["a", "b", "d"]
    assert best(scored, 5) == list("abcde")


def test_one_candidate_is_what_is_written_without_selection(tiny, batches):
    plain = hyperinit.init_(cnn(), tiny, strength=0.5, generator=gen())
    model = hyperinit.init_(cnn(), tiny, strength=0.5, select=batches, oversample=1, generator=gen())
    assert torch.equal(vector(model), vector(plain))


def test_ten_candidates_are_the_default(tiny, batches, monkeypatch):
    counts = []
    sample = type(tiny).sample
    monkeypatch.setattr(type(tiny), "sample", lambda self, n, **rest: (counts.append(n), sample(self, n, **rest))[1])
    hyperinit.init_(cnn(), tiny, select=batches)
    hyperinit.ensemble(2, tiny, select=batches)
    assert counts == [10, 20]


def test_each_candidate_starts_from_what_the_module_held(tiny, batches):
    """At strength 0.5 and fill="keep", a candidate must not be mixed with the one before."""
    model = nn.Sequential(*cnn(), nn.Linear(10, 10))
    with torch.no_grad():
        model[-1].weight.copy_(torch.eye(10))
    kept = model[-1].weight.clone()
    hyperinit.init_(model, tiny, fit="flat", fill="keep", select=batches, oversample=DRAWS, generator=gen())
    assert torch.equal(model[-1].weight, kept)
    seen = []
    write = lambda row: seen.append(model[-1].weight.clone()) or model[-1].weight.data.add_(1)  # noqa: E731
    rest = {"calibrate": None, "kept": Kept(), "select": batches, "generator": None}
    selection.write_best_(model, write, torch.zeros(3, 1), **rest)
    assert all(torch.equal(weight, kept) for weight in seen)
    torch.testing.assert_close(model[-1].weight.data, kept + 1)


def test_each_candidate_is_calibrated_before_it_is_judged(tiny, batches, monkeypatch):
    seen = []
    model = normed()
    model[1].running_mean.fill_(1e4)
    monkeypatch.setattr(selection, "accuracy", lambda net, _: seen.append(net[1].running_mean.clone()) or len(seen))
    one_shot = iter(batches)
    hyperinit.init_(model, tiny, calibrate=one_shot, select=one_shot, oversample=3, generator=gen())
    assert max(mean.abs().max() for mean in seen) < 100
    assert len({tuple(mean.tolist()) for mean in seen}) == 3
    assert torch.equal(model[1].running_mean, seen[-1])  # the most accurate


def test_statistics_of_the_winner_stay_with_its_weights(tiny, batches):
    model = normed()
    hyperinit.init_(model, tiny, calibrate=iter(batches), select=iter(batches), oversample=4, generator=gen())
    before = tensors(model)
    hyperinit.calibrate_(model, batches)
    assert all(map(torch.equal, tensors(model), before))


def test_a_shuffling_loader_is_read_once_and_moves_no_global_generator(tiny, batches):
    data = torch.utils.data.TensorDataset(*(torch.cat(part) for part in zip(*batches, strict=True)))
    loader = torch.utils.data.DataLoader(data, batch_size=20, shuffle=True)
    one, two = normed(), normed()
    before = torch.get_rng_state()
    for model in (one, two):
        hyperinit.init_(model, tiny, calibrate=loader, select=loader, oversample=3, generator=gen())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, tensors(one), tensors(two)))


class Counting(nn.Sequential):
    """Counts its calls in a buffer."""

    def __init__(self):
        super().__init__(*cnn())
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def test_judging_leaves_no_trace_in_buffers(tiny, batches):
    model = hyperinit.init_(Counting(), tiny, select=batches, oversample=3)
    assert model.calls == 0
    members = hyperinit.ensemble(2, tiny, model=Counting, select=batches, oversample=2).members
    assert [int(member.calls) for member in members] == [0, 0]


def test_a_batch_that_a_candidate_fails_on_is_named_and_the_model_is_as_before(tiny, batches):
    model = cnn()
    before = tensors(model)
    with pytest.raises(BatchError, match=r"^batch 2 must be .* got float64 .* parameters' dtype, float32$"):
        hyperinit.init_(model, tiny, select=[batches[0], (batches[1][0].double(), batches[1][1])], oversample=2)
    assert all(map(torch.equal, tensors(model), before))


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ([], "must yield at least one batch"),
        ([torch.zeros(2, 1, 28, 28)], "^a labelled batch must be a tuple or list"),
        ([(torch.zeros(2, 1, 28, 28), torch.zeros(2))], "^labels must be class indices"),
        ([(torch.zeros(2, 1, 28, 28), torch.tensor([0, 10]))], r"^labels must be in 0\.\.9, got 0\.\.10$"),
        ([(torch.zeros(2, 1, 28, 28), torch.tensor([0]))], "must be of one length"),
        (5, "^select must be an iterable of batches"),
    ],
)
def test_a_failure_leaves_the_model_as_it_was(tiny, select, message):
    model = normed()
    before = tensors(model)
    with pytest.raises(ArgumentError, match=message):
        hyperinit.init_(model, tiny, calibrate=[torch.zeros(2, 1, 28, 28)], select=select)
    assert all(map(torch.equal, tensors(model), before))
    assert model.training


def test_an_interruption_between_candidates_leaves_the_model_as_it_was(tiny, batches, monkeypatch):
    model = normed()
    before = tensors(model)
    scores = iter([0.1, 0.2])

    def judged(module, labelled):
        assert not torch.equal(module[0].weight, before[0])
        for score in scores:
            return score
        raise KeyboardInterrupt

    monkeypatch.setattr(selection, "accuracy", judged)
    with pytest.raises(KeyboardInterrupt):
        hyperinit.init_(model, tiny, calibrate=batches, select=batches)
    assert all(map(torch.equal, tensors(model), before))


def test_a_regression_is_refused(tiny):
    model = nn.Sequential(*cnn(), nn.Linear(10, 1))
    with pytest.raises(
        ArgumentError, match=r"logits \(B, C\) of at least two classes, got float32 \(2, 1\); .*regression"
    ):
        hyperinit.init_(model, tiny, select=[(torch.zeros(2, 1, 28, 28), torch.zeros(2).long())])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, None, 5), r"^oversample=5 needs select=, the labelled batches"),
        ((None, [], 0), r"^oversample must be an integer of at least 1, got 0$"),
        ((None, [], 2.0), r"got 2\.0$"),
        ((None, [], True), r"got True$"),
    ],
)
def test_bad_counts_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        candidates(*arguments)


# Ensembles


@pytest.mark.parametrize("model", [None, cnn])
def test_an_ensemble_keeps_the_best_in_the_order_of_their_draw(tiny, drawn, batches, model):
    scores = [accuracy(tiny.build_model(row), batches) for row in drawn]
    how = {"select": iter(batches), "oversample": 3, "spread": False}
    found = hyperinit.ensemble(2, tiny, model=model, generator=gen(), **how)
    places = [int((drawn == vector(member)).all(1).nonzero()) for member in found.members]
    assert places == sorted(places)
    assert 3 in places
    assert sorted(scores[place] for place in places) == sorted(scores)[-2:]


def test_a_factory_must_make_each_candidate_anew(tiny, batches):
    net = cnn()
    with pytest.raises(ArgumentError, match=r"^members must not share parameters, got one module twice"):
        hyperinit.ensemble(1, tiny, model=lambda: net, select=batches)


# A hyper-representation as the source


def test_a_hyper_representation_is_a_source(tiny, artifact):
    assert hyperinit.load(tiny) is tiny
    expected = tiny.sample(1, generator=gen())[0]
    assert torch.equal(vector(hyperinit.init_(cnn(), tiny, generator=gen())), expected)
    assert torch.equal(vector(hyperinit.ensemble(1, tiny, generator=gen())), expected)
    assert str(hyperinit.plan(cnn(), tiny)) == str(hyperinit.plan(cnn(), artifact))
    assert hyperinit.methods(tiny) == hyperinit.methods(artifact)
