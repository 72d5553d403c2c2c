"""Run by torchrun on two processes: `init_` on wrapped networks, without any broadcast of weights."""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import weight_norm

import hyperinit
from hyperinit.errors import PlanError
from hyperinit.nets import cnn

LAYERS = (0, 3, 6, 9, 11)


def gen():
    return torch.Generator().manual_seed(7)


def network():
    """Partly decoded, partly drawn; its last layer does not divide into two equal shards."""
    return nn.Sequential(cnn(channels=3), nn.Linear(10, 7))


def sharded(net):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in (*(net[0][index] for index in LAYERS), net):
        fully_shard(part, mesh=mesh)
    return net


def wrapped(kind):
    torch.manual_seed(dist.get_rank())  # ranks begin with different networks
    if kind == "ddp":
        return DistributedDataParallel(network())
    if kind == "compiled ddp":
        return torch.compile(DistributedDataParallel(network()), backend="eager")
    if kind == "fsdp":
        return sharded(network())
    with torch.device("meta"):
        net = network()
    return sharded(net).to_empty(device="cpu")


def weights(net):
    whole = (value.full_tensor() if hasattr(value, "full_tensor") else value for value in net.parameters())
    return torch.cat([value.detach().flatten() for value in whole])


def check(kind):
    net = wrapped(kind)
    kinds = [(id(value), type(value)) for value in net.parameters()]
    state = torch.get_rng_state()
    hyperinit.init_(net, "digits", strength=0.5, exclude="1.bias", generator=gen())
    assert torch.equal(torch.get_rng_state(), state)
    hyperinit.init_(net, "digits", strength=0.5, generator=gen())
    expected = weights(hyperinit.init_(network(), "digits", strength=0.5, generator=gen()))
    assert torch.equal(weights(net), expected), "a wrapped network gets what a plain one gets, on every rank"
    assert [(id(value), type(value)) for value in net.parameters()] == kinds
    names = [row.name for row in hyperinit.plan(net, "digits").rows]
    assert names == [name for name, _ in network().named_parameters()]
    net(torch.zeros(2, 3, 28, 28)).sum().backward()  # and still trains
    assert all(value.grad is not None for value in net.parameters())


def check_refusal():
    net = network()
    weight_norm(net[0][0])
    try:
        hyperinit.init_(sharded(net), "digits", generator=gen())
    except PlanError as error:
        assert str(error) == "0.0 is parametrised and sharded; call init_ before fully_shard"  # noqa: PT017
    else:
        raise AssertionError("a parametrised module that is sharded must be refused")


def main():
    dist.init_process_group("gloo")
    for kind in ("ddp", "compiled ddp", "fsdp", "fsdp on meta"):
        check(kind)
        sys.stdout.write(f"rank done: {kind}\n")
    check_refusal()
    sys.stdout.write("rank done: refusal\n")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
