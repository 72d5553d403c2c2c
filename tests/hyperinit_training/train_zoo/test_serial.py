"""Training one network at a time: against a plain loop, resuming, augmentation, dropout and formats."""

import copy

import numpy as np
import pytest
import torch
from seeds import gen
from torch import nn
from torch.nn import functional

from hyperinit.errors import ArgumentError, ZooError
from hyperinit.layout import Layout
from hyperinit.nets import resnet
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import serial
from hyperinit_training.train_zoo.schedules import Schedule, start
from hyperinit_training.train_zoo.serial import Format, Task, Trainee, augmented, fastest_format, seeded

CPU = torch.device("cpu")
PLAIN = Format(torch.float32, torch.contiguous_format)
RECIPE = ZooRecipe(
    images="x", models=1, network="resnet8x4", batch=8, optimizer="sgd", rate=0.05, schedule="one-cycle", decay=5e-4,
    smoothing=0.1, epochs=3,
)  # fmt: skip


def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return resnet(8, 4, classes=3)


def dropping():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout2d(0.5), nn.Flatten(), nn.Dropout(0.25), nn.Linear(400, 3))


@pytest.fixture
def data():
    images, labels = torch.randn(24, 3, 12, 12, generator=gen()), torch.randint(3, (24,), generator=gen(1))
    return images, labels


def task(layout, recipe=RECIPE, seed="0"):
    return Task(recipe, *start(recipe, layout, 24, gen(2), None), recipe.epochs, seed)


def trained(module, data, path, recipe=RECIPE, *, form=PLAIN, done=lambda: None):
    layout = Layout.of(module)
    return Trainee(module, layout, form, CPU).train(task(layout, recipe), data, path, done)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, weight_decay=5e-4),
    "adam": lambda p: torch.optim.Adam(p, weight_decay=5e-4),
    "adamw": lambda p: torch.optim.AdamW(p, weight_decay=5e-4),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_equals_a_plain_loop(data, tmp_path, name):
    recipe = ZooRecipe(**vars(RECIPE) | {"optimizer": name, "rate": 0.01})
    net = small()
    layout = Layout.of(net)
    plan = task(layout, recipe)
    net.load_state_dict(layout.state(plan.weights), strict=False)
    optimizer = OPTIMIZERS[name](net.parameters())
    for chosen, rate in zip(plan.schedule.order, plan.schedule.rates, strict=True):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        functional.cross_entropy(net(data[0][chosen]), data[1][chosen], label_smoothing=0.1).backward()
        optimizer.step()
    [found] = trained(small(), data, tmp_path / "state", recipe)
    torch.testing.assert_close(found, layout.flatten(net.state_dict()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [small, dropping])
def test_a_killed_training_continues_with_the_same_result(data, tmp_path, make):
    """It is killed after each of its three epochs in turn."""
    recipe = ZooRecipe(**vars(RECIPE) | {"augment": "crop-flip", "snapshots": (1, 3)})
    module = make()
    whole = trained(module, data, tmp_path / "whole", recipe)
    assert whole.shape == (2, Layout.of(module).size)
    for epochs in (1, 2, 3):
        path, left = tmp_path / f"killed-{epochs}", [epochs]

        def done(left=left):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(module, data, path, recipe, done=done)
        calls = []
        assert torch.equal(trained(module, data, path, recipe, done=lambda calls=calls: calls.append(1)), whole)
        assert len(calls) == 3


def test_a_damaged_state_is_an_error(data, tmp_path):
    path = tmp_path / "state"
    trained(small(), data, path)
    tensors, metadata = serial.read_tensors(path)
    del tensors["module.bn1.weight"]
    serial.write_tensors(path, tensors, metadata)
    with pytest.raises(ZooError, match=r"(?s)state is damaged .*; delete it to train its network again"):
        trained(small(), data, path)


def test_a_network_does_not_go_on_in_another_format(data, tmp_path):
    trained(small(), data, tmp_path / "state")
    other = Format(torch.float32, torch.channels_last)
    with pytest.raises(ZooError, match="trained in float32 contiguous_format and not in float32 channels_last"):
        trained(small(), data, tmp_path / "state", form=other)


def test_the_module_and_the_global_generator_are_left_alone(data, tmp_path):
    net = dropping()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    trained(net, data, tmp_path / "state")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert type(net[1]) is nn.Dropout2d


def test_dropout_drops_whole_channels_or_values_and_keeps_the_mean():
    net = nn.Sequential(nn.Dropout2d(0.5), nn.Conv2d(6, 6, 1))
    trainee = Trainee(net, Layout.of(net), PLAIN, CPU)
    trainee.generator.manual_seed(0)
    found = trainee.module[0](torch.ones(200, 6, 2, 2))
    assert set(found.unique().tolist()) == {0.0, 2.0}
    assert (found == found[:, :, :1, :1]).all()
    assert found.mean().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(trainee.module.eval()[0](torch.ones(2, 6, 2, 2)), torch.ones(2, 6, 2, 2))


def test_crops_are_parts_of_the_padded_image():
    images = torch.arange(1.0, 2 * 3 * 25 + 1).view(2, 3, 5, 5).repeat(40, 1, 1, 1)
    found = augmented(images, "crop", gen())
    padded = functional.pad(images, (4,) * 4)
    places = set()
    for image, whole in zip(found, padded, strict=True):
        hits = [
            (row, column)
            for row in range(9)
            for column in range(9)
            if torch.equal(whole[:, row : row + 5, column : column + 5], image)
        ]
        places.update(hits[:1])
        assert hits
    assert len(places) > 30


def test_about_half_of_the_images_are_mirrored():
    """The brightness rises to the right, also in the middle of every crop, unless the image is mirrored."""
    images = torch.arange(1.0, 20).expand(400, 1, 19, 19)
    for how, least, most in (("crop", 0, 0), ("crop-flip", 0.35, 0.65)):
        found = augmented(images, how, gen())
        assert least <= (found[:, 0, 9, 8] > found[:, 0, 9, 10]).float().mean().item() <= most


def test_no_augmentation_returns_the_images(data):
    assert augmented(data[0], "", gen()) is data[0]


def test_half_precision_trains_a_network_that_is_as_accurate(data, tmp_path):
    """The classes differ in brightness, so that any sound training separates them."""
    labels = data[1]
    easy = (0.3 * data[0] + labels[:, None, None, None] - 1, labels)
    recipe = ZooRecipe(**vars(RECIPE) | {"epochs": 12})
    for form in (PLAIN, Format(torch.bfloat16, torch.channels_last)):
        net = small()
        trainee = Trainee(net, Layout.of(net), form, CPU)
        found = trainee.train(task(trainee.layout, recipe), easy, tmp_path / str(form), lambda: None)
        assert trainee.accuracy(found[-1], easy) == 1


def test_the_fastest_format_is_one_of_those_that_were_timed(data, monkeypatch):
    """The clock says that each format takes longer than the one before."""
    seen = []

    def seconds(trainee, images, labels):
        seen.append(trainee.form)
        return -len(seen)

    monkeypatch.setattr(serial, "_seconds", seconds)
    net = small()
    assert fastest_format(net, Layout.of(net), data, RECIPE, CPU) == seen[-1]
    assert {form.memory for form in seen} == {torch.contiguous_format, torch.channels_last}


def test_formats_are_read_from_their_text():
    form = Format(torch.bfloat16, torch.channels_last)
    assert Format.read(str(form)) == form
    with pytest.raises(ZooError, match="a format must be float32 or bfloat16 and a memory format, got 'half'"):
        Format.read("half")


@pytest.mark.parametrize(
    ("net", "labels", "message"),
    [
        (nn.Conv2d(1, 3, 1), None, "must take images of shape"),
        (nn.Conv2d(3, 3, 1), None, "must return logits"),
        (None, torch.full((24,), 3), "labels must lie in 0 to 2, got 3 to 3"),
        (None, torch.full((24,), -1), "labels must lie in 0 to 2, got -1 to -1"),
    ],
)
def test_unsuitable_networks_and_labels_are_refused(data, net, labels, message):
    net = net or small()
    given = (data[0], data[1] if labels is None else labels)
    with pytest.raises(ArgumentError, match=message):
        fastest_format(net, Layout.of(net), given, RECIPE, CPU)


def test_a_seed_is_a_digest_of_its_text():
    draws = [torch.rand(3, generator=seeded(text)).tolist() for text in ("0/1/0", "0/1/1", "0/1/0")]
    assert draws[0] == draws[2] != draws[1]


def test_the_rate_of_every_step_reaches_the_optimizer(data, tmp_path):
    """A rate of zero changes no parameter, whatever the optimizer remembers."""
    net = small()
    layout = Layout.of(net)
    order = np.arange(24).reshape(3, 8)
    plan = Schedule(order=order, rates=np.array([0.1, 0, 0], np.float32), keep=(1, 3))
    one, last = Trainee(net, layout, PLAIN, CPU).train(
        Task(RECIPE, task(layout).weights, plan, 3, "0"), data, tmp_path / "state", lambda: None
    )
    buffers = torch.cat([torch.full((t.size,), t.buffer) for t in layout.tensors])
    assert torch.equal(one[~buffers], last[~buffers])
    assert not torch.equal(one[buffers], last[buffers])


class Buffered(nn.Module):
    """A network with a buffer of the user's, a norm, and one dropout under two names."""

    def __init__(self):
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.first = self.second = nn.Dropout(0.5)
        self.register_buffer("scale", torch.full((4,), 2.0))

    def forward(self, x):
        return self.layer(self.second(self.norm(self.first(x * self.scale))))


def test_buffers_of_the_users_keep_their_values():
    net = Buffered()
    net.norm.num_batches_tracked.fill_(7)
    layout = Layout.of(net)
    trainee = Trainee(net, layout, PLAIN, CPU)
    for _ in range(2):
        trainee.load(torch.rand(layout.size, generator=gen()))
        assert trainee.module.scale.tolist() == [2.0] * 4
        assert trainee.module.norm.num_batches_tracked == 0
        trainee.module.scale.zero_()
    assert net.scale.tolist() == [2.0] * 4


def test_a_dropout_of_two_names_draws_from_the_generator_under_both():
    module = Trainee(Buffered(), Layout.of(Buffered()), PLAIN, CPU).module
    assert not any(isinstance(part, nn.Dropout) for part in module.modules())


def test_a_dropout_of_everything_gives_zeros():
    net = nn.Sequential(nn.Dropout(1.0), nn.Linear(4, 3))
    module = Trainee(net, Layout.of(net), PLAIN, CPU).module.train()
    assert module[0](torch.ones(2, 4)).tolist() == [[0.0] * 4] * 2
