"""The peer of the training step."""

import torch

from benchmarks.speed import peers
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.train_autoencoder.losses import nt_xent


def test_the_peers_contrast_is_ours():
    first, second = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(peers.nt_xent(first, second), nt_xent(first, second))


def test_the_peers_views_are_permuted_and_erased():
    layout = Layout.of(cnn())
    views = peers.ItemViews(layout, 5)
    whole = torch.arange(1.0, layout.size + 1)
    pairs = [view for _ in range(20) for view in views.item(whole)]
    erased = [(view == 0).sum().item() for view in pairs]
    assert 0 < sum(count > 0 for count in erased) < len(pairs)
    assert max(erased) <= 0.33 * layout.size
    full = next(view for view, count in zip(pairs, erased, strict=True) if not count)
    assert torch.equal(full.sort().values, whole)
    assert not torch.equal(full, whole)
