"""Figures of the report: small files, legends beside the data, one colour for each kind of network."""

import pytest

from benchmarks.record import summary
from benchmarks.report import plots
from benchmarks.report.plots.style import look

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
