"""Run by torchrun on two processes: `init_` on wrapped networks, without any broadcast of weights."""

import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import hyperinit
from hyperinit.nets import cnn

LAYERS = (0, 3, 6, 9, 11)


def gen():
    return torch.Generator().manual_seed(7)


def wrapped(kind):
    torch.manual_seed(dist.get_rank())  # ranks begin with different networks
    net = cnn(channels=3)  # partly decoded, partly drawn
    if kind == "ddp":
        return DistributedDataParallel(net)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for index in LAYERS:
        fully_shard(net[index], mesh=mesh)
    return fully_shard(net, mesh=mesh)


def weights(net):
    whole = (value.full_tensor() if hasattr(value, "full_tensor") else value for value in net.parameters())
    return torch.cat([value.detach().flatten() for value in whole])


def main(kind):
    dist.init_process_group("gloo")
    net = wrapped(kind)
    kinds = [type(value) for value in net.parameters()]
    hyperinit.init_(net, "digits", strength=0.5, generator=gen())
    expected = weights(hyperinit.init_(cnn(channels=3), "digits", strength=0.5, generator=gen()))
    assert torch.equal(weights(net), expected), "a wrapped network gets what a plain one gets, on every rank"
    assert [type(value) for value in net.parameters()] == kinds
    net(torch.zeros(2, 3, 28, 28)).sum().backward()  # and still trains
    assert all(value.grad is not None for value in net.parameters())
    broken = hyperinit.plan(net, "digits")
    assert broken.decoded_share > 0.5
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
