"""Figures of the report: small files, legends beside the data, one colour for one kind; what they are drawn from."""

from types import SimpleNamespace

import pytest
import torch

import hyperinit
from benchmarks.paper import figures_weights
from benchmarks.paper.figure6 import pairs
from benchmarks.populations import Task
from benchmarks.record import summary
from benchmarks.report import plots
from benchmarks.report.plots.style import look
from benchmarks.sources import initializer_other
from hyperinit_training.images.dataset import load_images
from hyperinit_training.recipes.zoo import ZooRecipe

ROWS = (
    "scratch", "PyTorch's default", "kde30", "kde30-marginal", "kde", "neigh", "neigh30", "gan", "gan30",
    "kde30 without LWLN", "kde30, aligned", "fine-tuned",
)  # fmt: skip
EPOCHS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25)


def populations(table):
    """Populations that rise from 0.1 by row and epoch, at the paper's scale."""
    rows = {row: {} for row in ROWS}
    for place, row in enumerate(ROWS):
        for epoch in EPOCHS:
            mean = 0.1 + 0.6 * epoch / (epoch + place + 1)
            rows[row][str(epoch)] = summary([mean + 0.003 * k for k in range(6)])
    config = {"table": table, "key": "svhn-mnist", "scale": "small", "epochs": [1, 25, 25], "zoo": {"epochs": 25}}
    return {"config": config, "results": {"rows": rows}}


@pytest.mark.parametrize("table", ["table1", "table2"])
def test_figures_are_small_and_named_after_table_and_data(tmp_path, table):
    drawn = plots.draw(table, "svhn-mnist", populations(table), tmp_path)
    assert [file for file, _ in drawn] == [
        f"{table}-svhn-mnist.png", *(["table1-svhn-mnist-epochs.png"] if table == "table1" else [])
    ]  # fmt: skip
    for file, _ in drawn:
        assert 5_000 < (tmp_path / file).stat().st_size < 60_000


@pytest.mark.parametrize("plot", [plots.populations.in_dataset, plots.populations.transfer])
def test_legends_cover_no_data_and_show_each_row_once(plot):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    plot(figure, populations("table1"))
    canvas.draw()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == len(ROWS)
    for axes in figure.axes:
        assert not axes.get_tightbbox(canvas.get_renderer()).overlaps(legend.get_window_extent())


def test_generated_populations_are_shifted_by_the_zoos_epochs_in_the_right_panel_only():
    from matplotlib.figure import Figure

    figure = Figure()
    plots.populations.in_dataset(figure, populations("table1"))
    first = {axes: {line.get_label(): line.get_xdata()[0] for line in axes.lines} for axes in figure.axes}
    left, right = first.values()
    assert set(left.values()) == {0}
    assert right["kde30 (S_KDE30)"] == 25
    assert right["from scratch (B_T)"] == right["PyTorch's default"] == 0


def test_one_kind_of_network_has_one_colour():
    assert look("init_")["color"] == look("kde30")["color"] != look("kde30 without LWLN")["color"]
    assert look("average")["color"] == look("average of neighbouring checkpoints")["color"] != look("neigh30")["color"]
    assert look("noise")["color"] == look("a checkpoint plus noise")["color"]


# What the figures are drawn from


def test_histograms_count_every_value_and_angles_are_those_of_the_latents():
    train = torch.eye(10) * torch.arange(1, 11)[:, None]
    found = figures_weights.histograms(train / 10, train[:4] / 10, torch.arange(10) / 10)
    assert sum(found["norms"]["counts"]["train"]) == 10
    assert sum(found["cosines"]["counts"]["train"]) == 45
    assert sum(found["cosines"]["counts"]["test"]) == 6
    assert found["cosines"]["range"][0] == 0.0  # orthogonal
    assert len(found["dimensions"]) == figures_weights.DIMENSIONS
    assert {sum(part["counts"]["top 30 %"]) for part in found["dimensions"].values()} == {3}
    assert {*list(found["dimensions"])[:2]} < {"7", "8", "9"}  # those that only the top 30 % have


def test_a_perfect_reconstruction_stays_with_its_original():
    """Both networks of a pair see the same images in the same order; otherwise they would part at once."""
    images = load_images("digits").subset(100)
    hr = SimpleNamespace(encode=lambda w: w, decode=lambda z: z)
    weights = hyperinit.load("digits").anchors.weights[:3]
    snapshots = tuple(SimpleNamespace(epoch=epoch) for epoch in (9, 10, 10))
    zoo = SimpleNamespace(part=lambda part: SimpleNamespace(weights=weights, snapshots=snapshots))
    experiment = SimpleNamespace(
        representation=lambda variant: hr,
        prepared=lambda variant: zoo,
        scale=SimpleNamespace(population=5, tuned=(2, 3)),
        cached=lambda name, key, make: make(),
    )
    found = pairs(experiment, Task.of(images, ZooRecipe(models=1, images="digits", batch=20)), "lwln")
    assert list(found["distance"]) == ["0", "1", "2"]
    assert all(row["mean"] == 0 and row["n"] == 2 for row in found["distance"].values())
    assert found["cosine"]["2"]["mean"] == pytest.approx(1, abs=1e-5)
    assert found["original"] == found["reconstructed"]


def test_a_checkpoint_is_laid_over_a_network_as_generated_weights_are():
    hr = hyperinit.load("digits")
    start = initializer_other.starts(hr, [])["a checkpoint of the zoo"]
    model = hyperinit.nets.cnn(1)
    start(model, torch.Generator().manual_seed(0))
    written = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert (written - hr.anchors.weights).norm(dim=1).min() < 1e-4


@pytest.mark.parametrize(("shape", "count"), [((1, 28, 28), 3), ((3, 28, 28), 2)])
def test_networks_outside_the_zoo_take_the_images_and_every_start(shape, count):
    hr = hyperinit.load("digits" if shape[0] == 1 else "cifar10")
    networks, batches = initializer_other.networks(torch.Size(shape)), [torch.randn(8, *shape)]
    assert len(networks) == count
    for make in networks.values():
        for start in initializer_other.starts(hr, batches).values():
            model = make()
            start(model, torch.Generator().manual_seed(0))
            assert model(torch.zeros(2, *shape)).shape == (2, 10)
