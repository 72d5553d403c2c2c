"""The card of a hyper-representation: its description, its origin and its measured figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hyperinit.errors import ArtifactError, counted, listed, one_line, shown
from hyperinit.samplers import METHODS

FIGURES = ("accuracy", "std", "n", "images", "distance", "overlap", "diversity")
ROWS = {
    "zoo": "the training snapshots themselves",
    "zoo-held-out": "real networks of the zoo that were held out",
    "zoo-held-out-decoded": "the held-out networks, encoded and decoded",
    "anchors-decoded": "the training snapshots, encoded and decoded",
}
SHARES = ("accuracy", "std", "overlap", "diversity")  # figures that must lie in [0, 1]
MOST_NOTES = 10  # that the text of a card shows
MOST_FIGURE = 1e12  # the most that any other figure may be
LEGEND = """accuracy before any training, mean and spread over the networks;
distance to the nearest training snapshot (weight units);
overlap of wrong answers with the nearest training snapshot (intersection over union: 1 is a copy);
diversity: share of images that one of two networks gets wrong and the other right."""


@dataclass(frozen=True)
class Card:
    """Description, origin and measured figures of a hyper-representation.

    Args:
        source: name of the source.
        title: description in one line.
        licence: licence of the weights, and the terms of the images they were trained on.
        citation: citation of the images.
        preprocessing: preprocessing of the images: size in pixels, channels, and mean and std of each channel on the
            scale 0 to 1.
        zoo: origin of the training networks: images, recipe, models, date, code version.
        recommended: the default method.
        measured: figures on test images before any training, for each method and for the rows in `ROWS`.
    """

    source: str
    title: str
    licence: str
    citation: str
    preprocessing: dict[str, Any]
    zoo: dict[str, Any]
    recommended: str
    measured: dict[str, dict[str, float]]

    def check(self) -> None:
        """Validate a card that was read from a file.

        Raises:
            ArtifactError: if a field has a wrong type, a figure is out of range, or the recommended method is unknown.
        """
        kinds = {"str": str, "dict[str, Any]": dict, "dict[str, dict[str, float]]": dict}
        wrong = [f.name for f in fields(self) if not isinstance(getattr(self, f.name), kinds[str(f.type)])]
        if wrong:
            raise ArtifactError(f"card fields of a wrong type: {', '.join(wrong)}")
        names = {"source": self.source, "title": self.title, "licence": self.licence}
        names |= {f"measured.{shown(name)}": name for name in self.measured}
        if broken := [where for where, name in names.items() if one_line(name) != name]:
            raise ArtifactError(
                f"card field {broken[0]} must be one line without control characters, got {shown(names[broken[0]])}"
            )
        if not isinstance(self.zoo.get("images", {}), dict):
            raise ArtifactError(f"card field zoo.images must be an object, got {shown(self.zoo['images'])}")
        parts = {"preprocessing": self.preprocessing, "zoo": self.zoo, "zoo.images": self.zoo.get("images", {})}
        for (part, key), kind in FACTS.items():
            value = parts[part].get(key)
            if value is not None and not CHECKS[kind](value):
                raise ArtifactError(f"card field {part}.{key} must be {kind}, got {shown(value)}")
        if self.recommended not in METHODS:
            raise ArtifactError(
                f"the recommended method {shown(self.recommended)} is unknown to this version of hyperinit"
            )
        for name, row in self.measured.items():
            if not isinstance(row, dict) or set(row) != set(FIGURES) or not all(map(_is_number, row.values())):
                raise ArtifactError(f"the figures of {shown(name)} must be the numbers {', '.join(FIGURES)}")
            wrong = [key for key, value in row.items() if not 0 <= value <= (1 if key in SHARES else MOST_FIGURE)]
            if wrong:
                raise ArtifactError(
                    f"the {wrong[0]} of {shown(name)} must lie in [0, {1 if wrong[0] in SHARES else MOST_FIGURE:g}], "
                    f"got {shown(row[wrong[0]])}"
                )

    @property
    def unusable(self) -> str:
        """The sentence of the verdict that says that the source is not usable, or ""."""
        return next((text for text in map(str, _texts(self.zoo.get("verdict"))) if "not usable" in text.lower()), "")

    @property
    def inputs(self) -> str:
        """Size and normalisation of the images in one line, or "" if the card does not tell them."""
        size = self.preprocessing
        mean, std = ([_short(value) for value in _numbers(size.get(key))] for key in ("mean", "std"))
        if not (size.get("size") and size.get("channels") and mean and std):
            return ""
        return (
            f"{size['channels']} x {size['size']} x {size['size']}, normalised with mean [{', '.join(mean)}] and std "
            f"[{', '.join(std)}]"
        )

    def __str__(self) -> str:
        """Return the card as text, as `hyperinit info` prints it."""
        facts = {"source": f"{self.source} - {self.title}", "licence": self.licence, "citation": self.citation}
        facts |= self._of_images() if "images" in self.zoo else self._of_checkpoints()
        facts["recommended"] = f"{self.recommended}; strength 1 for this task, 0.5 for another"
        if "conditioned" in self.zoo:
            facts["conditioned"] = f"on {self.zoo['conditioned']} other networks, which are the anchors"
        head = "\n".join(f"{key:12} {value}" for key, value in facts.items() if value)
        measured = [table(self.measured), LEGEND] if self.measured else []
        return "\n\n".join([head, *measured, *map(str, _texts(self.zoo.get("verdict")))])

    def _of_images(self) -> dict[str, str]:
        images, size = self.zoo["images"], self.preprocessing
        mean, std = ([_short(value) for value in _texts(size.get(key))] for key in ("mean", "std"))
        return {
            "images": f"{size.get('channels')} x {size.get('size')} x {size.get('size')}, normalised with mean "
            f"[{', '.join(mean)}] and std [{', '.join(std)}]",
            "zoo": f"{_count(self.zoo.get('models'), 'network')} on {_count(images.get('train'), 'image')} of "
            f"{images.get('name')}, "
            f"{self.zoo.get('anchors')} of them anchors; made {self.zoo.get('date')}",
        }

    def _of_checkpoints(self) -> dict[str, str]:
        """Describe a zoo of the user's checkpoints, see `hyperinit_training.train`."""
        zoo = self.zoo
        if "models" not in zoo:
            return {}
        notes = list(map(str, _texts(zoo.get("notes"))))
        more = [f"and {counted(len(notes) - MOST_NOTES, 'other note')}"] * (len(notes) > MOST_NOTES)
        return {
            "zoo": f"{_count(zoo['models'], 'checkpoint')} {families(_texts(zoo.get('families')))}; "
            f"{zoo.get('anchors')} are anchors, {zoo.get('held out', 0)} were held out; made {zoo.get('date')}",
            "notes": "; ".join(notes[:MOST_NOTES] + more),
        }


def table(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Format measured figures as a table, sorted by accuracy, the best first.

    >>> row = {"accuracy": 0.9, "std": 0.01, "n": 50, "images": 100, "distance": 1, "overlap": 0.5, "diversity": 0.1}
    >>> print(table({"kde30": row}))
    method                       accuracy  distance  overlap  diversity
    kde30                 90.00% +- 1.00%      1.00     0.50      0.100
    """
    lines = [f"{'method':20}{'accuracy':>17}{'distance':>10}{'overlap':>9}{'diversity':>11}"]
    for name, row in sorted(measured.items(), key=lambda item: -item[1]["accuracy"]):
        accuracy = f"{row['accuracy']:.2%} +- {row['std']:.2%}"
        lines.append(f"{name:20}{accuracy:>17}{row['distance']:>10.2f}{row['overlap']:>9.2f}{row['diversity']:>11.3f}")
        if name in ROWS:
            lines[-1] += f"  ({ROWS[name]})"
    return "\n".join(lines)


def families(sizes: Sequence[object]) -> str:
    """Say how large the families of a zoo are. Networks that are related to no other are counted.

    >>> families([12]), families([3, 2, 1, 1]), families([1] * 30)
    ('in families of 12', 'in families of 3, 2 and 2 alone', 'of which no two are related')
    """
    if not sizes:
        return "in unknown families"
    related = [size for size in sizes if size != 1]
    alone = len(sizes) - len(related)
    if not related:
        return "of which no two are related" if alone > 1 else "alone"
    return f"in families of {listed(related)}{f' and {alone:,} alone' if alone else ''}"


def _count(value: object, noun: str) -> str:
    return f"{value} {noun}{'' if value == 1 else 's'}"


def _texts(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _numbers(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


CHECKS: dict[str, Callable[[Any], bool]] = {
    "an integer of at least 0": _is_count,
    "text": lambda value: isinstance(value, str) and one_line(value) == value,
    "a list of numbers": lambda value: isinstance(value, list | tuple) and all(map(_is_number, value)),
}
FACTS = {  # optional keys of `preprocessing` and `zoo` that the card's text and the commands read
    ("preprocessing", "size"): "an integer of at least 0",
    ("preprocessing", "channels"): "an integer of at least 0",
    ("preprocessing", "mean"): "a list of numbers",
    ("preprocessing", "std"): "a list of numbers",
    ("zoo", "models"): "an integer of at least 0",
    ("zoo", "anchors"): "an integer of at least 0",
    ("zoo", "conditioned"): "an integer of at least 0",
    ("zoo", "date"): "text",
    ("zoo.images", "name"): "text",
    ("zoo.images", "train"): "an integer of at least 0",
}
