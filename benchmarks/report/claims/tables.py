"""Claims of the paper's tables, and of Figure 4, which shows populations of Table 1."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.record import Summary
from benchmarks.report import published
from benchmarks.report.claims.judging import (
    Claim,
    Results,
    above_chance,
    after,
    better,
    explains,
    means,
    near_chance,
    percent,
    told,
    without_lwln,
)

TRANSFERRED = ("kde30", "scratch", "neigh30", "gan30", "fine-tuned")  # rows of Table 2 that claims compare
LEARNT = 0.25  # accuracy above the share of the most frequent class in each of the test sets


def in_dataset(r: Results) -> Iterator[Claim]:
    """Table 1: layer-wise loss normalisation, and training from generated weights compared with from scratch."""
    names = ("scratch", "kde30", "kde30 without LWLN", "PyTorch's default", "kde30-marginal")
    for key in published.IMAGES:
        row = {(name, epoch): r.row("table1", key, name, epoch) for name in names for epoch in (0, 1, 25, 50)}
        where = f"Table 1, {key}"
        text = "S_KDE30 is better than without LWLN, before training"
        yield without_lwln(r, key, better(where, text, row["kde30", 0], row["kde30 without LWLN", 0]))
        for name, words in (("kde30", "S_KDE30"), ("kde30 without LWLN", "B_KDE30")):
            for epoch in (1, 25):
                text = f"{words} is better than B_T {after(epoch)}"
                found = better(where, text, row[name, epoch], row["scratch", epoch])
                yield found if name == "kde30" else without_lwln(r, key, found)
            if key in ("mnist", "svhn"):
                text = f"{words} after 25 epochs is better than B_T after 50"
                found = better(where, text, row[name, 25], row["scratch", 50])
                yield found if name == "kde30" else without_lwln(r, key, found)
        for epoch in (1, 25):
            text = f"beyond the paper: S_KDE30 is better than PyTorch's default start {after(epoch)}"
            yield better(where, text, row["kde30", epoch], row["PyTorch's default", epoch])
        text = "S_KDE30 as the paper's text describes it (independent dimensions) is better than chance"
        yield above_chance(where, text, row["kde30-marginal", 0])


def samplers(r: Results) -> Iterator[Claim]:
    """Figure 4: the order of the sampling methods before training. The paper shows MNIST."""
    for key in ("mnist", *(key for key in r.keys("table1") if key != "mnist")):
        where = "Figure 4, mnist" if key == "mnist" else f"Figure 4's claims elsewhere, {key}"
        row = {name: r.row("table1", key, name, 0) for name in (*published.ROWS.values(), "uniform", "counterfactual")}
        for name in ("kde", "neigh", "gan"):
            text = f"sampling from the top 30 % is better than from all networks: {name}30 against {name}"
            yield _told_apart(where, text, row[f"{name}30"], row[name])
        pairs = [("kde", "neigh"), ("gan", "neigh"), ("kde30", "gan30"), ("kde30", "neigh30")]
        for high, low in pairs:
            yield _told_apart(where, f"{high} is better than {low}", row[high], row[low])
        for name in ("kde", "neigh", "gan"):
            yield above_chance(where, f"{name} is better than chance", row[name])
        for name in ("uniform", "counterfactual"):
            yield near_chance(where, f"{name} is near chance", row[name])
        text = "generated networks before training are worse than B_T after 25 epochs"
        yield better(where, text, r.row("table1", key, "scratch", 25), row["kde30"])


def _told_apart(where: str, text: str, high: Summary | None, low: Summary | None) -> Claim:
    return told(better(where, text, high, low), *means(high, low))


def transfer(r: Results) -> Iterator[Claim]:
    """Table 2, Figure 7, and the claim that every source is useful for every target (Appendix F)."""
    for key in dict.fromkeys((*published.TABLE2_PAIRS, *r.keys("table2"))):
        where, own = f"Table 2, {key}", {(n, e): r.row("table2", key, n, e) for n in TRANSFERRED for e in (1, 50)}
        for epoch in (1, 50):
            text = f"S_KDE30 is better than B_T {after(epoch)}"
            yield better(where, text, own["kde30", epoch], own["scratch", epoch])
        for name, words in (("neigh30", "S_Neigh30"), ("gan30", "S_GAN30"), ("fine-tuned", "B_F")):
            text = f"S_KDE30 learns faster than {words}: better after 1 epoch"
            yield better(where, text, own["kde30", 1], own[name, 1])
    where = "Table 2, svhn-mnist"
    pair = (r.row("table2", "svhn-mnist", name, 50) for name in ("kde30", "fine-tuned"))
    yield better(where, "S_KDE30 is better than B_F after 50 epochs", *pair)


def unseen(r: Results) -> Iterator[Claim]:
    """Table 3: samples better than chance, and ensembles better than single models."""
    for key in published.TABLE3:
        row = r.rows("table3", key).get("kde30", {})
        for kind in ("one model", "ensemble"):
            text = f"networks conditioned on an unseen zoo are better than chance: {kind}"
            yield above_chance(f"Table 3, {key}", text, row.get(kind))
        yield better(
            f"Table 3, {key}", "ensembles are better than one model", row.get("ensemble"), row.get("one model")
        )


def architectures(r: Results) -> Iterator[Claim]:
    """Table 4: generated weights after 5 epochs compared with a random start after the last, 50 in the paper."""
    record = r.records.get(("table4", "mnist-svhn"))
    for name in ("ResCNN", "FourConv", "FourConvSkip"):
        for start in ("uniform", "default"):
            rows = r.rows("table4", "mnist-svhn")
            middle, end = [str(epoch) for epoch in record["config"]["epochs"][-2:]] if record else ("5", "50")
            text = f"{name}: generated weights after {middle} epochs are better than a {start} start after {end}"
            generated, other = rows.get(f"{name}, generated", {}), rows.get(f"{name}, {start}", {})
            yield better("Table 4, mnist-svhn", text, generated.get(middle), other.get(end))


def diverse(r: Results) -> Iterator[Claim]:
    """Table 9: which autoencoder reconstructs which zoo better."""
    rows = r.rows("table9", "svhn")
    original, mixed = rows.get("svhn", {}), rows.get("svhn-zoo3", {})
    where = "Table 9, svhn"
    text = "the autoencoder of the original zoo reconstructs that zoo better than {}"
    for zoo in ("svhn-zoo2", "svhn-zoo3"):
        yield explains(where, text.format(zoo), original.get("svhn"), original.get(zoo))
        text2 = f"{zoo} is reconstructed better by the autoencoder of the diverse zoo than by that of the original zoo"
        yield explains(where, text2, mixed.get(zoo), original.get(zoo))
    text = "the original zoo is reconstructed worse by the autoencoder of the diverse zoo than by its own"
    yield explains(where, text, original.get("svhn"), mixed.get("svhn"))


def zoos(r: Results) -> Iterator[Claim]:
    """Table 7: the zoos of MNIST and SVHN are initialised from U(0, 1)."""
    for key in r.keys("uniform-start"):
        record = r.records["uniform-start", key]
        last = list(record["results"]["rows"]["uniform"].values())[-1]
        steps = record["config"]["epochs"] * record["config"]["steps of an epoch"]
        text = f"networks initialised from U(0, 1), as the paper's zoos of digits are, learn within {steps:,} steps"
        yield Claim(f"Table 7, {key}", text, last["mean"] > LEARNT, percent(last))


PARTS = (in_dataset, samplers, transfer, unseen, architectures, diverse, zoos)
