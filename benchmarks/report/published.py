"""The paper's numbers that the results are compared with, by table and row.

Accuracies are in percent. Tables 5 to 7 (the zoos) are in training/hyperinit_training/recipes/*-paper.toml, Table 8
(the autoencoders) in `hyperinit.autoencoder.TABLE8`. Most cells of Table 4 are missing from the text that was used.

Source: Schürholt et al. 2022, arXiv:2209.14733.
"""

from __future__ import annotations

from dataclasses import dataclass

ROWS = {  # the paper's name of a population -> its name in our results
    "B_T": "scratch",
    "B_F": "fine-tuned",
    "B_KDE30": "kde30 without LWLN",
    "S_KDE": "kde",
    "S_KDE30": "kde30",
    "S_Neigh": "neigh",
    "S_Neigh30": "neigh30",
    "S_GAN": "gan",
    "S_GAN30": "gan30",
}
IMAGES = ("mnist", "svhn", "cifar10", "stl10")

TABLE1 = """
B_KDE30 0  | 63.2 7.2 | 10.1 3.2 | 15.5 3.4 | 12.7 3.4
S_KDE30 0  | 68.6 6.7 | 51.5 5.9 | 26.9 4.9 | 19.7 2.1
B_T     1  | 20.6 1.6 | 19.4 0.6 | 27.5 2.1 | 15.4 1.8
B_KDE30 1  | 83.2 1.2 | 67.4 2.0 | 39.7 0.6 | 26.4 1.6
S_KDE30 1  | 83.7 1.3 | 69.9 1.6 | 44.0 0.5 | 25.9 1.6
B_T     25 | 83.3 2.6 | 66.7 8.5 | 46.1 1.3 | 35.0 1.3
B_KDE30 25 | 93.2 0.6 | 75.4 0.9 | 48.1 0.6 | 38.4 0.9
S_KDE30 25 | 93.0 0.7 | 74.2 1.4 | 48.6 0.5 | 38.1 1.1
B_T     50 | 91.1 2.6 | 70.7 8.8 | 48.7 1.4 | 39.0 1.0
"""
TABLE2_PAIRS = ("svhn-mnist", "stl10-cifar10")
TABLE2 = """
B_T       0  | 10.0 0.6 | 10.1 1.3
B_T       1  | 20.6 1.6 | 27.5 2.1
B_T       50 | 91.1 1.0 | 48.7 1.4
B_F       0  | 33.4 5.4 | 15.3 2.3
B_F       1  | 84.4 7.4 | 29.4 1.9
B_F       50 | 95.0 0.8 | 49.2 0.7
S_KDE30   0  | 31.8 5.6 | 14.5 1.9
S_KDE30   1  | 86.9 1.4 | 29.6 2.0
S_KDE30   50 | 95.5 0.4 | 48.8 0.9
S_Neigh30 0  | 10.7 2.7 | 10.1 2.1
S_Neigh30 1  | 79.2 3.3 | 29.2 1.9
S_Neigh30 50 | 95.5 0.7 | 48.9 0.7
S_GAN30   0  | 10.4 2.4 | 10.2 2.5
S_GAN30   1  | 75.0 6.3 | 28.6 1.8
S_GAN30   50 | 94.9 0.7 | 48.8 0.8
"""
TABLE3 = {  # zoo of the autoencoder-zoo conditioned on: mean and best of one model, mean and best of an ensemble
    "mnist-svhn": (12.7, 19.8, 13.4, 18.7),
    "svhn-mnist": (16.2, 26.0, 22.1, 29.8),
    "cifar10-stl10": (18.0, 24.4, 23.8, 26.7),
    "stl10-cifar10": (16.3, 21.2, 20.0, 23.0),
}
TABLE3_COLUMNS = ("one model, mean", "one model, best", "ensemble, mean", "ensemble, best")
TABLE4 = {
    "ResCNN": {"random": (50.6, 28.0), "generated": (68.0, 21.0)}
}  # after 50 epochs on SVHN; which random start is not said
# Accuracies before training of generated weights of this CNN in later work, without labels (KDE30) and with (SUB: the
# best of several draws by labelled images). Schürholt et al. 2024, "Towards Scalable and Versatile Weight Space
# Learning" (SANE), ICML 2024, Table 3. Its CIFAR-10 and STL-10 rows are of a larger CNN.
SANE = {"mnist": (84.8, 86.7), "svhn": (70.7, 72.3)}
SUBSETS = ("svhn",)  # our images are part of the official data set
OFFICIAL = {"mnist": 60_000, "svhn": 73_257, "cifar10": 50_000, "stl10": 5_000}  # official training images
FIGURE5 = {"kde30, ensembles of 15": 77.6, "kde30 without LWLN, largest": 20.0, "scratch, 50 epochs": 70.7}
TABLE9 = {  # R2 in percent on the test parts of the zoos
    "svhn": {"svhn": 81.9, "svhn-zoo2": 45.7, "svhn-zoo3": 38.9},
    "svhn-zoo3": {"svhn": 25.8, "svhn-zoo2": 89.1, "svhn-zoo3": 75.6},
}
# Tables 10 and 12: medians at the end (B_T and transfer after 50 epochs, in-dataset 25) and 95 % intervals, "-" if N/A.
MEDIANS = """
mnist   B_T       | 91.1 91.1 91.2 | 72.3 72.0 72.4
mnist   B_F       | 91.2 91.0 91.3 | 76.2 75.8 76.5
mnist   S_KDE     | 92.3 92.1 92.8 | 76.7 76.2 77.0
mnist   S_KDE30   | 93.1 92.9 93.4 | 77.2 76.8 77.6
mnist   S_Neigh   | 93.4 93.2 93.5 | 76.8 76.4 77.1
mnist   S_Neigh30 | 94.0 93.8 94.1 | 77.0 76.3 77.4
mnist   S_GAN     | 93.5 93.3 93.6 | 76.9 76.6 77.6
mnist   S_GAN30   | 93.9 93.5 93.9 | 76.5 76.3 76.8
svhn    B_F       | 95.1 95.0 95.3 | 73.2 72.8 73.4
svhn    S_KDE     | 95.1 - -       | 73.0 72.6 73.3
svhn    S_KDE30   | 95.5 - -       | 74.2 73.9 74.5
svhn    S_Neigh   | 97.2 97.0 97.3 | 78.1 77.9 78.2
svhn    S_Neigh30 | 95.5 95.4 95.7 | 76.5 76.3 76.7
svhn    S_GAN     | 94.3 94.1 94.6 | 74.5 74.0 74.9
svhn    S_GAN30   | 94.9 94.8 95.1 | 75.3 75.0 75.6
cifar10 B_T       | 49.0 48.9 49.0 | 39.0 38.9 39.1
cifar10 B_F       | 48.6 48.3 48.7 | 42.8 42.5 42.9
cifar10 S_KDE     | 48.3 48.1 48.4 | 40.7 40.3 40.9
cifar10 S_KDE30   | 48.7 48.4 48.8 | 41.3 40.9 41.5
cifar10 S_Neigh   | 45.6 44.9 46.0 | 36.7 35.8 37.4
cifar10 S_Neigh30 | 46.2 45.8 46.4 | 37.9 37.3 38.2
cifar10 S_GAN     | 46.0 - -       | 38.6 38.1 39.0
cifar10 S_GAN30   | 47.0 46.5 47.2 | 38.6 38.2 39.1
stl10   B_F       | 49.3 49.0 49.4 | 39.5 38.9 39.7
stl10   S_KDE     | 48.6 48.4 48.9 | 37.3 37.0 37.8
stl10   S_KDE30   | 48.8 48.4 49.2 | 38.3 37.9 38.4
stl10   S_Neigh   | 10.0 - -       | 28.3 26.8 29.1
stl10   S_Neigh30 | 49.0 48.5 49.1 | 37.8 37.6 38.2
stl10   S_GAN     | 49.0 48.6 49.4 | 38.5 37.9 38.9
stl10   S_GAN30   | 48.8 48.5 49.1 | 37.9 - -
"""
TARGETS = {"mnist": ("mnist", "svhn"), "svhn": ("mnist", "svhn"), "cifar10": ("cifar10", "stl10")}
TARGETS["stl10"] = TARGETS["cifar10"]
# Tables 11 and 13: Mann-Whitney p and CLES, against B_T and against B_F, for both targets of the source.
MANN_WHITNEY = """
mnist   S_KDE     | 2.1e-18 0.8701 0.0e+00 0.8639 | 5.2e-27 0.9551 1.1e-01 0.5920
mnist   S_KDE30   | 7.0e-27 0.9539 6.9e-22 0.9545 | 2.5e-29 0.9754 1.7e-04 0.7180
mnist   S_Neigh   | 1.5e-30 0.9857 4.5e-25 0.9889 | 6.6e-31 0.9888 5.2e-03 0.6622
mnist   S_Neigh30 | 1.7e-35 0.9987 3.1e-28 0.9994 | 1.3e-29 0.9778 1.4e-02 0.6426
mnist   S_GAN     | 7.6e-31 0.9883 3.0e-25 0.9907 | 8.0e-25 0.9351 7.8e-03 0.6546
mnist   S_GAN30   | 1.1e-31 0.9953 6.8e-26 0.9973 | 2.1e-26 0.9496 4.9e-02 0.6144
svhn    S_KDE     | 6.1e-79 0.9943 7.8e-01 0.4904 | 1.1e-04 0.6006 3.8e-01 0.4704
svhn    S_KDE30   | 1.7e-82 1.0000 0.0e+00 0.7292 | 1.6e-30 0.7985 3.0e-08 0.6850
svhn    S_Neigh   | 2.9e-78 0.9867 2.8e-44 0.9661 | 8.6e-80 0.9916 1.8e-47 0.9833
svhn    S_Neigh30 | 1.7e-82 1.0000 8.2e-08 0.6791 | 4.7e-76 0.9797 1.7e-42 0.9563
svhn    S_GAN     | 1.2e-31 0.9948 1.5e-07 0.2517 | 0.0e+00 0.8140 7.5e-06 0.7118
svhn    S_GAN30   | 4.2e-32 0.9987 3.6e-01 0.4565 | 6.7e-22 0.9067 0.0e+00 0.8335
cifar10 S_KDE     | 1.5e-06 0.2966 3.7e-02 0.4014 | 7.4e-19 0.8750 1.7e-18 0.0849
cifar10 S_KDE30   | 3.6e-02 0.4114 2.9e-01 0.5498 | 4.8e-25 0.9371 0.0e+00 0.1266
cifar10 S_Neigh   | 5.7e-28 0.0364 3.1e-22 0.0413 | 7.4e-18 0.1359 7.1e-26 0.0024
cifar10 S_Neigh30 | 3.5e-25 0.0616 2.2e-19 0.0741 | 2.0e-07 0.2800 3.0e-25 0.0089
cifar10 S_GAN     | 6.6e-25 0.0642 2.8e-19 0.0754 | 6.6e-02 0.4223 1.0e-24 0.0145
cifar10 S_GAN30   | 2.1e-21 0.0983 8.8e-16 0.1195 | 1.1e-02 0.3928 2.7e-25 0.0084
stl10   S_KDE     | 1.3e-01 0.4362 6.9e-04 0.3028 | 0.0e+00 0.1730 6.0e-10 0.1404
stl10   S_KDE30   | 6.1e-01 0.4783 1.1e-02 0.3528 | 1.2e-06 0.2948 9.1e-06 0.2424
stl10   S_Neigh   | 2.9e-32 0.0000 3.3e-20 0.0000 | 3.0e-32 0.0000 7.1e-18 0.0000
stl10   S_Neigh30 | 1.0e+00 0.5000 2.1e-02 0.3654 | 4.3e-09 0.2517 5.4e-07 0.2090
stl10   S_GAN     | 3.2e-01 0.5418 2.7e-01 0.4360 | 2.0e-04 0.3427 2.4e-04 0.2864
stl10   S_GAN30   | 6.2e-01 0.4788 1.2e-02 0.3532 | 5.4e-07 0.2880 4.6e-06 0.2340
"""


@dataclass(frozen=True)
class Cell:
    """One accuracy of Tables 1 or 2: mean and standard deviation over a population, in percent."""

    table: str
    key: str  # images, or "source-target"
    row: str  # the paper's name
    epoch: int
    mean: float
    std: float


@dataclass(frozen=True)
class Effect:
    """One entry of Tables 11 or 13: a population compared with a baseline, at the end of training."""

    key: str
    row: str
    baseline: str
    p: float
    cles: float


def cells() -> list[Cell]:
    """Return every cell of Tables 1 and 2.

    >>> [cell.mean for cell in cells() if (cell.table, cell.row, cell.epoch) == ("table1", "B_T", 50)]
    [91.1, 70.7, 48.7, 39.0]
    """
    found = []
    for table, text, keys in (("table1", TABLE1, IMAGES), ("table2", TABLE2, TABLE2_PAIRS)):
        for line in text.strip().splitlines():
            head, *columns = (part.split() for part in line.split("|"))
            for key, (mean, std) in zip(keys, columns, strict=True):
                found.append(Cell(table, key, head[0], int(head[1]), float(mean), float(std)))
    return found


def medians() -> dict[tuple[str, str], tuple[float, float | None, float | None]]:
    """Return median and 95 % interval by ("mnist" or "svhn-mnist", row): Tables 10 and 12.

    >>> medians()["svhn-mnist", "S_Neigh"], medians()["mnist", "B_T"][0]
    ((97.2, 97.0, 97.3), 91.1)
    """
    found = {}
    for line in MEDIANS.strip().splitlines():
        (source, row), *columns = (part.split() for part in line.split("|"))
        for target, (median, *interval) in zip(TARGETS[source], columns, strict=True):
            low, high = (None if value == "-" else float(value) for value in interval)
            found[pair(source, target), row] = (float(median), low, high)
    return found


def effects() -> list[Effect]:
    """Return every entry of Tables 11 and 13.

    >>> len(effects())
    96
    """
    found = []
    for line in MANN_WHITNEY.strip().splitlines():
        (source, row), *columns = (part.split() for part in line.split("|"))
        for target, (p_t, cles_t, p_f, cles_f) in zip(TARGETS[source], columns, strict=True):
            key = pair(source, target)
            found.append(Effect(key, row, "B_T", float(p_t), float(cles_t)))
            found.append(Effect(key, row, "B_F", float(p_f), float(cles_f)))
    return found


def pair(source: str, target: str) -> str:
    """Return the key of an experiment: the data set in-dataset, "source-target" in transfer."""
    return source if source == target else f"{source}-{target}"
