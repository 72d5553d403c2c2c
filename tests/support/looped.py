"""A layout with a group that moves both axes of one tensor."""

from torch import nn

from hyperinit.layout import Layout


def looped():
    """Make the layout of three linear layers 1 -> 4 -> 4 -> 1 whose group "a" moves both axes of the middle weight."""
    layout = Layout.of(nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 4), nn.Linear(4, 1)))
    groups = {"0.weight": ("a", None), "0.bias": ("a",), "1.weight": ("a", "a"), "1.bias": ("a",)}
    return layout.with_groups(groups | {"2.weight": (None, "a")})
