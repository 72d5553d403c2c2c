"""Write docs/results.md and its figures from the result files: the paper's numbers, ours, and whether they agree.

python -m benchmarks report
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import FOLDER
from benchmarks.report import published, tables
from benchmarks.report.claims import claims
from benchmarks.report.claims.judging import Claim, Results
from benchmarks.report.plots import draw
from benchmarks.report.tables import Row, Table, markdown
from hyperinit.autoencoder import TABLE8
from hyperinit_training.machine.run_files import write_text
from hyperinit_training.recipes.load import load_recipe

HEAD = """# The paper's tables and figures, reproduced and audited

This page is written by `python -m benchmarks report` from the files in `benchmarks/results/`; do not edit it. The paper
is Schürholt et al. 2022, arXiv:2209.14733. Its numbers are in `benchmarks/report/published.py`. Accuracies are test
accuracies in percent: mean ± standard deviation over a population.

- A comparison **holds** if the mean is higher and a Mann-Whitney test finds p < 0.05.
- It **fails** if the mean is lower and p < 0.05.
- Otherwise it is *unclear*. It is also unclear if no population reaches 20 % (chance is 10), or if neither autoencoder
  reaches an R² of 0.2.
- It is *not comparable* if it relies on an autoencoder without LWLN that has learnt nothing here (R² below 0.5 on its
  training networks).

"Better than chance" is a mean at least two standard errors above 10 %. "Near chance" is a mean below 15 %. "Agree"
means that the means differ by less than twice the root of the sum of both variances, which is lenient for populations
with a large spread. No correction is made for the number of claims, so some hold or fail by luck at p < 0.05. A
population has 50 networks at epoch 0 and 5 networks if it is trained. Samples share anchors and are not independent,
so very small values of p overstate the evidence.

Names: `kde30` is the paper's S_KDE30 as in the released code, and `kde30-marginal` as in the paper's text. `local` and
`aligned` (neurons of every network reordered to match the other networks) are additions of this library. `NAME-paper`
is the paper's recipe, and NAME alone an embedded source. `svhn-train` means networks that the autoencoder was trained
on."""
LOST = """## Claims that fail or are unclear

Claims of the paper and of this library. Claims that were not measured are not listed here."""
EPOCHS = """Figures 14 to 20 count the epochs in two ways. On the left every population starts at 0, which shows how
long a user waits. On the right, as in the paper's plots, generated populations start after the epochs that the zoo's
networks were trained for, which shows the cost of the whole."""
SMALL = """ Zoos are
kept in half precision in `training/zoos/`. At `small`, autoencoders are trained with a quarter of the views permuted,
no dropout and a beta of 0.995. With every view permuted and the paper's beta of 0.92 to 0.977, reconstruction does not
begin within so few steps."""
PUBLISHED = """Networks sampled from an embedded source, before any training. SANE uses the same CNN but another zoo.
The embedded sources come from families of well-trained networks (`*-tuned` recipes), whose accuracy limits that of
samples. SVHN here is a subset. For CIFAR-10 and STL-10, SANE uses a larger CNN."""


@dataclass(frozen=True)
class Section:
    """One part of the report: a title, a text, a table, and the figures of the measurement `figures`."""

    title: str
    build: Callable[[Results], Table] | None
    figures: str = ""
    words: Callable[[Results], str] = lambda results: ""


def equal_r2(results: Results) -> str:
    """State the R2 of both autoencoders and whether it is equal, which the paper's comparison requires."""
    lines = []
    for key in results.keys("figures-weights"):
        found = results.records["figures-weights", key]["results"]
        if "r2" in found["lwln"]:
            lwln, plain = (found[variant]["r2"]["weights"] for variant in ("lwln", "plain"))
            word = "equal" if abs(lwln - plain) <= 0.02 else f"not equal, they differ by {abs(lwln - plain):.2f}"
            lines.append(f"{key}: R² over all weights is {lwln:.2f} with LWLN and {plain:.2f} without: {word}.")
    note = "In the paper both have about 0.70. Here the two autoencoders have the same recipe except for the loss."
    return " ".join([*lines, note]) if lines else ""


SECTIONS = (
    Section("Tables 10 and 12: medians at the end", tables.medians),
    Section("Tables 11 and 13: Mann-Whitney and CLES at the end", tables.effects),
    Section("Table 3: conditioned on an unseen zoo", tables.table3),
    Section("Table 4: other architectures", tables.table4),
    Section("Figure 3: noise on latents, and interpolation between latents", None, "figure3"),
    Section("Figure 5: ensembles", tables.figure5, "figure5"),
    Section("Figure 6: fine-tuning of originals and reconstructions", None, "figure6"),
    Section("Figures 2 and 9 to 13: weights by layer, and latents", None, "figures-weights", equal_r2),
    Section("Table 9: R² on other zoos", tables.table9),
    Section("Beyond the paper: accuracy before training", tables.headlines, "", lambda results: PUBLISHED),
    Section("Beyond the paper: epochs to the default's final accuracy", tables.initializers, "initializer"),
    Section("Beyond the paper: other architectures", tables.others, "initializer-other"),
    Section("Beyond the paper: are generated networks new?", tables.novelty, "novelty"),
)


def main(argv: list[str]) -> None:
    """Write `results.md` and `figures/*.png`."""
    made = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    made.add_argument(
        "--results", type=Path, default=FOLDER, help="folder of the result files; default benchmarks/results"
    )
    made.add_argument(
        "--out", type=Path, default=FOLDER.parent.parent / "docs", help="folder of the page; default docs"
    )
    arguments = made.parse_args(argv)
    results = Results(arguments.results)
    path = arguments.out / "results.md"
    write_text(path, "\n\n".join(sections(results, arguments.out / "figures")) + "\n")
    print(path)


def sections(results: Results, figures: Path) -> Iterator[str]:
    """Yield the parts of the report, claims that fail first, and write its figures."""
    found = claims(results)
    yield HEAD
    yield in_short(found)
    lost = [claim for claim in found if claim.holds in (False, None)]
    yield f"{LOST}\n\n{_claims(lost) if lost else 'None of the measured claims.'}"
    yield _scales(results)
    absent = []
    for title, table, keys in (
        ("Table 1 and Figures 4, 14, 16, 18, 20: in-dataset", "table1", published.IMAGES),
        ("Table 2 and Figures 7, 15, 17, 19, 21: transfer", "table2", published.TABLE2_PAIRS),
    ):
        own = results.keys(table)
        parts = [_part(results, table, key, figures) for key in dict.fromkeys((*keys, *own)) if key in own]
        lacking = sum(tables.cells(results, table, key).missing for key in keys if key not in own)
        absent += [f"{title.split(':')[0]} ({lacking} entries)"] if lacking else []
        if parts:
            yield "\n\n".join([f"## {title}", *([EPOCHS] if table == "table1" else []), *parts])
    for section in SECTIONS:
        made = section.build(results) if section.build else Table((), [])
        pictures = [_pictures(results, section.figures, key, figures) for key in results.keys(section.figures)]
        if made.rows or pictures:
            yield "\n\n".join(filter(None, [f"## {section.title}", section.words(results), str(made), *pictures]))
        else:
            absent.append(
                section.title.removeprefix("Beyond the paper: ").split(":")[0]
                + (f" ({made.missing} entries)" if made.missing else "")
            )
    yield "\n\n".join(
        ["## All claims", _claims([claim for claim in found if claim.holds != ""]), _absent(found, absent)]
    )


def in_short(found: list[Claim]) -> str:
    """Count the verdicts for each part of the paper, and name the parts in which all claims hold or some fail."""
    parts: dict[str, Counter[str]] = {}
    for claim in found:
        parts.setdefault(claim.where.rsplit(", ", 1)[0], Counter())[claim.verdict] += 1
    columns = ("holds", "**fails**", "unclear", "not measured", "not comparable")
    known = {part: count for part, count in parts.items() if count.total() > count["not measured"]}
    rows = [(part, *(str(count[word] or "") for word in columns)) for part, count in known.items()]
    whole = [part for part, count in known.items() if count["holds"] == count.total() - count["not measured"]]
    broken = [part for part, count in known.items() if count["**fails**"]]
    total = sum(parts.values(), Counter())
    lines = [
        f"{total['holds']} claims hold, {total['**fails**']} fail, {total['unclear']} are unclear, "
        f"{total['not measured']} are not measured, {total['not comparable']} are not comparable."
    ]
    lines += [f"All measured claims hold: {', '.join(whole)}."] if whole else []
    lines += [f"Some claims fail: {', '.join(broken)}."] if broken else []
    return "\n\n".join(["## In short", " ".join(lines), *([markdown(("part", *columns), rows)] if rows else [])])


def _part(results: Results, table: str, key: str, figures: Path) -> str:
    """Return the table and the figures of one data set or pair."""
    made = tables.cells(results, table, key)
    return "\n\n".join(filter(None, [f"### {key}", str(made), _pictures(results, table, key, figures)]))


def _pictures(results: Results, table: str, key: str, folder: Path) -> str:
    """Draw a record's figures; return links to them, with the command that repeats the measurement."""
    record = results.records[table, key]
    drawn = draw(table, key, record, folder)
    shown = [f"![{caption}](figures/{file})\n\n{caption}." for file, caption in drawn]
    return "\n\n".join([*shown, f"`{record['command']}`, commit {record['commit']}"])


def _claims(found: list[Claim]) -> str:
    return markdown(("where", "claim", "verdict", "ours"), [(c.where, c.text, c.verdict, c.ours) for c in found])


def _absent(found: list[Claim], parts: list[str]) -> str:
    missing = Counter(claim.where for claim in found if claim.holds == "")
    lines = ["Claims not measured: " + "; ".join(f"{where} ({n})" for where, n in missing.items()) + "."] * bool(
        missing
    )
    lines += ["Tables and figures not measured: " + "; ".join(parts) + "."] * bool(parts)
    return "\n\n".join(lines)


def _scales(results: Results) -> str:
    """Return the table of all runs, with their sizes beside the paper's."""
    head = (
        "result", "scale", "models", "first weights", "training images", "networks a row", "autoencoder", "seconds",
        "commit",
    )  # fmt: skip
    rows: list[Row] = []
    for (name, key), record in sorted(results.records.items()):
        config, images = record["config"], str(key).split("-")[0]
        if "zoo" in config:
            trained = config.get("target") or config  # transfer trains on the target's images
            taken = trained["zoo"]["recipe"]["images"]
            own, theirs = config["autoencoder"], TABLE8.get(images)
            sizes = f"width {own['width']}, {own['depth']} layers, latent {own['latent']}"
            sizes += f" (of {theirs.width}, {theirs.depth}, {theirs.latent})" if theirs else ""
            official = f" of {published.OFFICIAL[taken]:,}" if taken in published.OFFICIAL else ""
            columns: Row = (
                f"{config['zoo']['models']:,} of {config['paper']['models']:,}",
                _start(config["zoo"]["recipe"]),
                f"{trained['images']['train']:,}{official}",
                f"{config.get('count', config['population'])} of {config['paper']['population']}",
                sizes,
            )
        else:
            drawn = config.get("draws") or config.get("seeds") or config.get("pool", "")
            columns = (
                "as table1" if key.endswith("-paper") else "none" if name == "uniform-start" else "embedded source",
                "",
                f"{config['train']:,}" if "train" in config else "all",
                str(drawn),
                "its own",
            )
        rows.append((f"{name} {key}", config.get("scale", "-"), *columns, f"{record['seconds']:.0f}", record["commit"]))
    words = "The sizes of each experiment beside the paper's. `small` is the scale that two cores can run."
    words += SMALL
    return f"## What was run\n\n{words}\n\n{markdown(head, rows) if rows else 'Nothing.'}"


def _start(recipe: dict[str, Any]) -> str:
    """Return the initialisation of a zoo, and the paper's if that differs."""
    theirs = load_recipe(f"{recipe['images']}-paper").zoo.init if recipe["images"] in TABLE8 else recipe["init"]
    return recipe["init"] if recipe["init"] == theirs else f"{recipe['init']} (not {theirs})"
