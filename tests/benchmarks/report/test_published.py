"""The paper's numbers: quoted ones are right, and tables of the same populations agree."""

from benchmarks.report import published


def test_numbers_of_the_paper_that_are_quoted_in_its_text():
    cells = {(c.table, c.key, c.row, c.epoch): (c.mean, c.std) for c in published.cells()}
    assert len(cells) == 9 * 4 + 15 * 2
    assert cells["table1", "svhn", "S_KDE30", 0] == (51.5, 5.9)
    assert [cells["table1", key, "B_KDE30", 25][0] for key in published.IMAGES] == [93.2, 75.4, 48.1, 38.4]
    assert cells["table2", "svhn-mnist", "S_GAN30", 1] == (75.0, 6.3)
    assert cells["table2", "stl10-cifar10", "B_F", 50] == (49.2, 0.7)
    effects = {(e.key, e.row, e.baseline): (e.p, e.cles) for e in published.effects()}
    assert effects["svhn-mnist", "S_GAN", "B_F"] == (1.5e-07, 0.2517)
    assert effects["stl10", "S_KDE30", "B_T"] == (1.2e-06, 0.2948)
    assert published.medians()["stl10-cifar10", "S_Neigh"] == (10.0, None, None)


def test_medians_agree_with_the_means_of_the_same_populations():
    """Tables 1 and 10 describe the same networks, so a slip of a row or a column would show."""
    medians = published.medians()
    for cell in published.cells():
        key = cell.key, cell.row
        end = (50,) if cell.row == "B_T" or cell.table == "table2" else (25,)
        if key in medians and cell.epoch in end:
            assert abs(medians[key][0] - cell.mean) < 2 * cell.std
