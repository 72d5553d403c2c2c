"""Read a recipe, that is a zoo, its autoencoder and its samplers, from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from hyperinit.errors import ArgumentError, ArtifactError, UnknownNameError, did_you_mean, listed, shown, unknown
from hyperinit.files.headers import check_plain
from hyperinit.files.texts import read_toml
from hyperinit.samplers import SamplerOptions
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe
from hyperinit_training.recipes.zoo import ZooRecipe, require

FOLDER = Path(__file__).parent
Section = TypeVar("Section", bound="ZooRecipe | AutoencoderRecipe | SamplerOptions")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The contents of one TOML file.

    Args:
        name: name of the file without its suffix.
        title: title of the source, for its card.
        licence: licence of the source.
        citation: work to cite for the images.
        zoo: how the networks are trained.
        autoencoder: how the autoencoder is built and trained.
        samplers: options of the samplers. With a bandwidth of 0, validation images choose the bandwidth.
        rank_by: images whose accuracy ranks the anchors and so selects the top 30 %: "val", or "test" as in the
            released code.

    Raises:
        ArgumentError: if `rank_by` is not allowed.
    """

    name: str
    title: str
    licence: str
    citation: str
    zoo: ZooRecipe
    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    samplers: SamplerOptions = field(default_factory=lambda: SamplerOptions(bandwidth=0.0))
    rank_by: str = "val"

    def __post_init__(self) -> None:
        """Check the keys outside of the sections."""
        require(self.rank_by in ("val", "test"), f"rank_by must be val or test, got {self.rank_by!r}")


def recipes() -> list[str]:
    """Return the names of the recipes that come with the package.

    >>> "mnist-tuned" in recipes()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """Read a recipe by name, or from a path that ends in `.toml`.

    Args:
        name: a name of `recipes()`, or a path that ends in `.toml`.

    Raises:
        UnknownNameError: if there is no such recipe. The message suggests similar names.
        ArgumentError: if the file has an unknown key or a value that is not allowed.

    >>> load_recipe("digits-tuned").zoo.images
    'digits'
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.exists():
        if name.endswith(".toml"):
            raise UnknownNameError(f"unknown recipe {shown(name)}; a path that ends in .toml must be that of a file")
        raise unknown("recipe", name, recipes())
    data = read_toml(path)
    try:
        check_plain(data)  # numbers that are not finite, and texts that no artifact may hold, cost hours later
    except ArtifactError as error:
        raise ArgumentError(f"{path} must hold plain data, got: {error}") from None
    zoo = _section(ZooRecipe, data.pop("zoo", {}), path)
    autoencoder = _section(AutoencoderRecipe, data.pop("autoencoder", {}), path)
    samplers = _section(SamplerOptions, {"bandwidth": 0.0} | data.pop("samplers", {}), path)
    words = {key: str(data.pop(key, "")) for key in ("title", "licence", "citation")}
    words["rank_by"] = str(data.pop("rank_by", "val"))
    if data:
        raise ArgumentError(f"{path} has unknown keys {listed(data)}")
    return Recipe(name=path.stem, zoo=zoo, autoencoder=autoencoder, samplers=samplers, **words)


def _section(kind: type[Section], data: dict[str, Any], path: Path) -> Section:
    """Build the dataclass of one TOML table. Lists become tuples."""
    if not isinstance(data, dict):
        raise ArgumentError(f"{path} must have its sections as tables, such as [zoo], got {shown(data)}")
    known = [f.name for f in fields(kind)]
    wrong = sorted(set(data) - set(known))
    if wrong:
        near = did_you_mean(wrong[0], known)
        hint = f"; {near}" if near else ""
        raise ArgumentError(f"{path} has unknown keys {listed(wrong)}; known are {', '.join(known)}{hint}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    try:
        return kind(**values)
    except (TypeError, OverflowError) as error:  # a key is missing, or a check compares a string with a number
        raise ArgumentError(f"{path}: {error}") from None
