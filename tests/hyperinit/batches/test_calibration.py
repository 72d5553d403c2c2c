"""BatchNorm statistics on a user's batches: as update_bn makes them, and nothing else moves."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

import hyperinit
from hyperinit.batches.calibration import calibrate_
from hyperinit.batches.kept import Kept
from hyperinit.errors import ArgumentError, BatchError
from hyperinit.fitting import make_plan
from hyperinit.layout import Layout
from hyperinit.nets import cnn

pytestmark = pytest.mark.filterwarnings("ignore:the module must compute")  # the norms under test


class Net(nn.Module):
    """Norms of three kinds, one frozen by its user, one that nothing reaches, dropout, and a buffer that counts."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(2), nn.SyncBatchNorm(4, momentum=0.3), nn.Dropout(0.5),
            nn.Flatten(), nn.Linear(144, 3), nn.BatchNorm1d(3).eval(), nn.BatchNorm1d(3, track_running_stats=False),
        )  # fmt: skip
        self.unused = nn.BatchNorm3d(2)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.calls += 1
        return self.body(x)


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net()
        for part in net.modules():
            if getattr(part, "running_mean", None) is not None:
                part.running_mean.fill_(7)
    return net


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 1, 8, 8, generator=generator) * scale for size, scale in ((6, 1), (6, 3), (4, 2))]


def tensors(net):
    return [value.detach().clone() for value in (*net.parameters(), *net.buffers())]


def flags(net):
    return [(part.training, getattr(part, "momentum", None)) for part in net.modules()]


def same(one, two):
    return all(map(torch.equal, one, two))


def oracle(net, batches):
    """State of the norms after update_bn, with dropout and buffers that count out of its way."""
    other = Net()
    other.load_state_dict(net.state_dict())
    other.body[4].p = 0.0
    update_bn(batches, other)
    return [other.body[place].state_dict() for place in (1, 3, 7)]


def test_statistics_are_those_of_update_bn_without_dropout(net, batches):
    expected = oracle(net, batches)
    assert calibrate_(net, batches) is net
    for place, state in zip((1, 3, 7), expected, strict=True):
        torch.testing.assert_close(dict(net.body[place].state_dict()), dict(state))
    assert net.body[1].num_batches_tracked == 3


def test_everything_else_is_as_before(net, batches):
    before, modes, state = tensors(net), flags(net), torch.get_rng_state()
    calibrate_(net, batches)
    statistics = {id(value) for place in (1, 3, 7) for value in net.body[place].buffers()}
    for value, old in zip((*net.parameters(), *net.buffers()), before, strict=True):
        assert torch.equal(value, old) == (id(value) not in statistics)
    assert flags(net) == modes
    assert net.unused.running_mean.eq(7).all()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(value.requires_grad and value.grad is None for value in net.parameters())


def test_pairs_and_generators_are_batches_too(net, batches):
    calibrate_(net, batches)
    first = tensors(net)
    calibrate_(net, ((batch, "label") for batch in batches))
    assert same(tensors(net), first)


def test_no_more_batches_are_taken_than_asked_for(net, batches):
    calibrate_(net, batches[:2])
    first = tensors(net)
    rest = iter(batches)
    calibrate_(net, rest, batches=2)
    assert same(tensors(net), first)
    assert next(rest) is batches[2]


def interrupted(batches):
    yield batches[0]
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        (torch.zeros(2, 5, 8, 8), BatchError, r"^batch 2 must be inputs .*, got float32 \(2, 5, 8, 8\): .*channels"),
        (torch.zeros(1, 1, 8, 8), BatchError, "^batch 2 .* more than 1 value per channel .*; .* drop_last=True$"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), BatchError, "^batch 2 .*got uint8.* parameters' dtype, float32$"),
        ({"x": torch.zeros(2, 1, 8, 8)}, ArgumentError, "^a batch must be a tensor, .* got dict$"),
        (torch.full((2, 1, 8, 8), torch.nan), ArgumentError, "^BatchNorm statistics must be finite, got .* 'body.1'"),
    ],
)
def test_a_bad_batch_changes_nothing(net, batches, second, error, message):
    before, modes = tensors(net), flags(net)
    with pytest.raises(error, match=message):
        calibrate_(net, [batches[0], second])
    assert same(tensors(net), before)
    assert flags(net) == modes


def test_an_interruption_changes_nothing(net, batches):
    before, modes = tensors(net), flags(net)
    with pytest.raises(KeyboardInterrupt):
        calibrate_(net, interrupted(batches))
    assert same(tensors(net), before)
    assert flags(net) == modes


def test_bad_arguments_are_refused(net, batches):
    for loader, options, message in [
        (5, {}, "^loader must be an iterable of batches, .* got int$"),
        (batches[0], {}, "^loader must be an iterable of batches, .* got Tensor$"),
        ([], {}, "must yield at least one batch"),
        (batches, {"batches": 0}, "^batches must be None or an integer of at least 1, got 0$"),
        (batches, {"batches": 1.0}, "got 1.0$"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            calibrate_(net, loader, **options)


def test_without_a_batch_norm_nothing_is_asked_of_the_loader():
    plain = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.BatchNorm1d(2, track_running_stats=False))
    before = tensors(plain)
    assert calibrate_(plain, []) is plain
    assert same(tensors(plain), before)


def test_an_empty_batch_is_refused_and_not_counted(net, batches):
    before = tensors(net)
    with pytest.raises(ArgumentError, match=r"^batch 2 must hold at least one input, got the shape \(0, 1, 8, 8\)$"):
        calibrate_(net, [batches[0], batches[0][:0]])
    assert same(tensors(net), before)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_compiled_norms_are_not_passed_over():
    with pytest.raises(ArgumentError, match=r"^a model must be calibrated before torch\.jit compiles it, got 1 as"):
        calibrate_(torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))), [torch.zeros(3, 2)])


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x, mask):
        return self.norm(x) * mask


def test_a_model_that_needs_two_inputs_is_refused_in_words(batches):
    with pytest.raises(BatchError, match=r"^batch 1 must .* argument: 'mask'; .* pass a module that takes one tensor"):
        calibrate_(TwoInputs(), batches)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(2, device="meta"),
        nn.LazyBatchNorm1d(),
    ],
    ids=["meta", "lazy"],
)
def test_statistics_without_values_are_refused(norm):
    with pytest.raises(ArgumentError, match=r"^running statistics of BatchNorms must be .* got others in 1; "):
        calibrate_(nn.Sequential(nn.BatchNorm1d(2), norm), [torch.zeros(3, 2)])


# From init_ and ensemble


def normed():
    return nn.Sequential(*cnn()[:1], nn.BatchNorm2d(8), *cnn()[1:])


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_init_calibrates_the_weights_that_it_would_have_written(artifact, strength):
    images = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    loader = torch.utils.data.DataLoader(images, batch_size=3, shuffle=True)
    plain, model, twin = normed(), normed(), normed()
    before = torch.get_rng_state()
    hyperinit.init_(plain, artifact, strength=strength, generator=torch.Generator().manual_seed(0))
    assert plain[1].num_batches_tracked == 0
    for net in (model, twin):
        generator = torch.Generator().manual_seed(0)
        hyperinit.init_(net, artifact, strength=strength, calibrate=loader, generator=generator)
    assert torch.equal(torch.get_rng_state(), before)  # though the loader shuffles
    undone = {name for name, value in model.named_parameters() if not value.equal(plain.get_parameter(name))}
    assert undone == {"1.weight", "1.bias"}
    assert same(tensors(twin), tensors(model))
    assert model[1].num_batches_tracked == 2
    torch.testing.assert_close(calibrate_(plain, [images[:3], images[3:]])[1].running_mean, model[1].running_mean)


def wide(channels=1, norm=nn.BatchNorm2d):
    """The zoo's network twice as wide with norms, once behind a pooling; the last follows a layer without source."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5), norm(16), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(16, 12, 5), nn.MaxPool2d(2), norm(12), nn.Tanh(),
        nn.Conv2d(12, 8, 2), nn.Tanh(), nn.Flatten(), nn.Linear(72, 40), nn.Tanh(), nn.Linear(40, 10),
        nn.Linear(10, 10), nn.BatchNorm1d(10),
    )  # fmt: skip


@pytest.fixture
def images():
    return torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def features(net, images, *, train=False):
    """Activations before the last two layers."""
    return net.train(train)[:-2](images).detach()


def test_norms_behind_decoded_layers_begin_as_identities(images):
    """In training mode too, where norms as they are drawn change what every decoded layer gets."""
    plain, calibrated, left = wide(), wide(), wide()
    hyperinit.init_(plain, "digits", generator=torch.Generator().manual_seed(0))
    for net, loader in ((calibrated, [images]), (left, None)):
        hyperinit.init_(net, "digits", calibrate=loader, generator=torch.Generator().manual_seed(0))
    calibrate_(left, [images])  # without a plan, norms normalise
    wanted = features(plain, images)
    for train in (False, True):
        torch.testing.assert_close(features(calibrated, images, train=train), wanted, atol=1e-3, rtol=1e-3)
        assert (features(left, images, train=train) - wanted).norm() > 0.1 * wanted.norm()
    norms = {name: part for name, part in calibrated.named_modules() if isinstance(part, nn.BatchNorm1d)}
    assert all(norm.weight.eq(1).all() and norm.bias.eq(0).all() for norm in norms.values())


def test_what_else_gets_statistics_only(images):
    """Norms that a smaller layer precedes, that are shared or unaffine, and all in a wrapper."""
    narrow = nn.Sequential(nn.Conv2d(1, 4, 5), nn.BatchNorm2d(4), *wide()[7:8], nn.Flatten(), nn.Linear(2304, 10))
    tied = nn.Sequential(*wide()[:-2], nn.Linear(10, 12), nn.BatchNorm1d(12))
    tied[-1].weight = tied[6].weight
    compiled = wide()
    compiled.compile(backend="eager")
    cases = [
        compiled,
        narrow,
        tied,
        wide(norm=lambda size: nn.BatchNorm2d(size, affine=False)),
        nn.DataParallel(wide()),
    ]
    for net in cases:
        hyperinit.init_(net, "digits", calibrate=[images], min_share=0)
        norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
        assert all(norm.num_batches_tracked == 1 for norm in norms)
        touched = [norm for norm in norms if norm.affine and not norm.weight.eq(1).all()]
        assert touched == ([tied[1]] if net is tied else [])


def test_of_a_source_with_norms_nothing_is_kept():
    """Its layers compute with them: a norm without a counterpart must go on normalising."""
    source = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2)))
    wide = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    assert Kept.of(make_plan(wide, source)) == Kept()
    plain = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)))
    assert Kept.of(make_plan(wide, plain)).norms == {"1"}


def test_members_of_an_ensemble_keep_what_they_compute(images):
    plain, calibrated = (
        hyperinit.ensemble(2, "digits", model=wide, calibrate=loader, generator=torch.Generator().manual_seed(0))
        for loader in (None, [images])
    )
    for one, other in zip(plain.members, calibrated.members, strict=True):
        torch.testing.assert_close(features(other, images), features(one, images), atol=1e-3, rtol=1e-3)


def test_hooks_are_gone_afterwards(images):
    net = hyperinit.init_(wide(), "digits", calibrate=[images])
    with pytest.raises(BatchError, match=r"^batch 2 must"):
        hyperinit.init_(net, "digits", calibrate=[images, images[:, :, :3]])
    assert not any(part._forward_hooks for part in net.modules())


@pytest.mark.parametrize("loader", [[], [5], interrupted([torch.zeros(2, 1, 28, 28)])])
def test_a_failed_calibration_undoes_the_weights(artifact, loader):
    model = normed()
    before = tensors(model)
    with pytest.raises((ArgumentError, KeyboardInterrupt)):
        hyperinit.init_(model, artifact, calibrate=loader)
    assert same(tensors(model), before)


def test_a_loader_of_the_wrong_type_is_refused_before_anything_is_drawn(artifact):
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    for call, first in ((hyperinit.init_, cnn()), (hyperinit.ensemble, 2)):
        with pytest.raises(ArgumentError, match=r"^calibrate must be an iterable of batches, .* got int$"):
            call(first, artifact, calibrate=5, generator=generator)
    assert torch.equal(generator.get_state(), state)


def test_every_member_is_calibrated_on_the_batches_of_one_generator(artifact):
    images = (torch.randn(4, 1, 28, 28) for _ in range(2))
    members = hyperinit.ensemble(2, artifact, model=normed, calibrate=images).members
    assert [int(member[1].num_batches_tracked) for member in members] == [2, 2]
    assert not torch.equal(members[0][1].running_mean, members[1][1].running_mean)


def test_draws_of_other_threads_stay_while_norms_are_judged(artifact):
    class Other(nn.Module):
        """Let another thread draw while the model runs."""

        def forward(self, x):
            thread = threading.Thread(target=torch.rand, args=(1,))
            thread.start()
            thread.join()
            drawn.append(thread)
            return x

    drawn = []
    net = cnn()
    net.insert(1, nn.BatchNorm2d(8))
    net.insert(2, Other())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))
        hyperinit.init_(net, artifact, calibrate=[images], generator=torch.Generator().manual_seed(0))
        after = torch.rand(1)
        torch.manual_seed(0)
        expected = [torch.rand(1) for _ in range(len(drawn) + 1)][-1]
    assert torch.equal(after, expected)


def test_any_number_of_batches_is_a_limit(net, batches):
    one, other = copy.deepcopy(net), net
    calibrate_(one, batches)
    calibrate_(other, batches, batches=10**30)
    assert torch.equal(one.body[1].running_var, other.body[1].running_var)
