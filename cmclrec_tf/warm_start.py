"""Starts a training from the weights of an earlier model, even if its vocabularies differ."""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cmclrec_tf.config import Config, split_settings
from cmclrec_tf.data import vocabulary
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes.whole import write_npz
from cmclrec_tf.schema import FIRST_ID, ITEMS, Feature, Schema

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.models import CMCLRec

WEIGHTS = "weights.npz"
VOCABULARIES = "vocabularies"


def save(model: "CMCLRec", dataset: "PreparedDataset", folder: str | os.PathLike[str]) -> None:
    """Writes the weights and the vocabularies for `WarmStart.read`: plain arrays, no pickle.

    Args:
        model: a trained `CMCLRec`.
        dataset: the `PreparedDataset` that it was trained on.
        folder: created when it is missing.
    """
    folder = pathlib.Path(folder)
    (folder / VOCABULARIES).mkdir(parents=True, exist_ok=True)
    facts = _facts(model.schema, model.config)
    arrays = {str(i): np.asarray(v) for i, v in enumerate(model.trainable_variables)}
    with open(folder / WEIGHTS, "wb") as file:
        write_npz(file, {"facts": np.array(json.dumps(facts)), **arrays})
    for name, path in dataset.vocabularies.items():
        shutil.copyfile(path, folder / VOCABULARIES / name)


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """The weights of a trained model, and its vocabularies.

    Attributes:
        facts: everything that the weights depend on: the settings of the model and of the split,
            and the user features.
        arrays: the trainable weights, in the order of the model.
        tokens: {vocabulary: tokens}.
    """

    facts: dict[str, dict[str, Any]]
    arrays: list[npt.NDArray[Any]]
    tokens: dict[str, list[str]]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "WarmStart":
        """Reads the folder that `save` wrote.

        Raises:
            InputError: the folder holds no weights.
        """
        folder = pathlib.Path(folder)
        if not (folder / WEIGHTS).is_file():
            raise InputError(
                folder,
                f"a model to start from has {WEIGHTS} in its folder",
                "Train without finetune.warm_start once.",
            )
        with np.load(folder / WEIGHTS, allow_pickle=False) as file:
            arrays = dict(file)
        facts = json.loads(str(arrays.pop("facts")))
        tokens = {p.name: vocabulary.read(str(p)) for p in (folder / VOCABULARIES).iterdir()}
        return cls(facts, [arrays[str(i)] for i in range(len(arrays))], tokens)

    def check(self, schema: Schema, config: Config) -> None:
        """Checks that the weights fit a new model, apart from its vocabularies.

        Args:
            schema: the new model's `Schema`.
            config: its `Config`. The split of the users must be the same, too: otherwise the
                earlier model has seen users of the new validation and test split.

        Raises:
            InputError: names the first setting that differs.
        """
        for part, values in _facts(schema, config).items():
            for name in [*values, *(name for name in self.facts[part] if name not in values)]:
                now, then = (facts.get(name, "nothing") for facts in (values, self.facts[part]))
                if now != then:
                    raise InputError(
                        f"{part}.{name}={now}",
                        f"the weights to start from were trained with {then}",
                        "Use the same setting, or train without finetune.warm_start once.",
                    )

    def carry_to(self, model: "CMCLRec", vocabularies: Mapping[str, str]) -> None:
        """Puts the weights into a built model; rows of new tokens keep their initial values.

        Args:
            model: a `CMCLRec`.
            vocabularies: {name: path} of the dataset that it will be trained on.

        Raises:
            InputError: as in `check`, or the code of the model has changed.
        """
        self.check(model.schema, model.config)
        variables, tables = model.trainable_variables, _tables(model)
        if len(variables) != len(self.arrays):
            raise _code_has_changed()
        tokens = {name: vocabulary.read(path) for name, path in vocabularies.items()}
        for variable, array in zip(variables, self.arrays, strict=True):
            if id(variable) in tables:
                names = tables[id(variable)]
                now, then = _row_names(names, tokens), _row_names(names, self.tokens)
                if array.shape != (len(then), *variable.shape[1:]):
                    raise _code_has_changed()
                array = _shared_rows(np.array(variable), now, array, then)
            if array.shape != tuple(variable.shape):
                raise _code_has_changed()
            variable.assign(array)


def _facts(schema: Schema, config: Config) -> dict[str, dict[str, Any]]:
    values = config.to_dict()
    return {
        "model": values["model"],
        "data": {
            "max_history": config.data.max_history,
            **split_settings(values["data"]),
        },
        "features": {f.name: _settings(f) for f in schema.features},
    }


def _settings(feature: Feature) -> str:
    """Returns what the weights of a feature depend on, as one text."""
    optional = ("clip", "transform", "bins", "as_of", "of")
    values = {name: feature.settings[name] for name in optional if name in feature.settings}
    base = f"{feature.kind}, prefix {feature.prefix}, {feature.numbers}"
    return ", ".join([base, *(f"{name} {value}" for name, value in values.items())])


def _tables(model: "CMCLRec") -> dict[int, dict[str, int]]:
    """Returns {id of a table: {name: bins}} of what has rows in it, in the order of the rows.

    The number of bins is 0 for what has a row for each token of a vocabulary.
    """
    tables, tokens = {id(model.items.embeddings): {ITEMS: 0}}, model.mapper.tokens
    if tokens.table is not None:
        bins = {f.name: f.bins for f in tokens.features if f.name in tokens.rows}
        tables[id(tokens.table.embeddings)] = bins
    return tables


def _row_names(
    bins: Mapping[str, int], tokens: Mapping[str, Sequence[str]]
) -> list[tuple[str, str | int]]:
    """Returns what each row of a table stands for: a token, a bin, or an id below FIRST_ID."""
    rows: list[tuple[str, str | int]] = []
    for name, count in bins.items():
        known = range(FIRST_ID, FIRST_ID + count) if count else tokens[name]
        rows += [(name, value) for value in (*range(FIRST_ID), *known)]
    return rows


def _shared_rows(
    fresh: npt.NDArray[Any],
    names: Sequence[tuple[str, str | int]],
    array: npt.NDArray[Any],
    old_names: Sequence[tuple[str, str | int]],
) -> npt.NDArray[Any]:
    """Copies into `fresh` [V, D] the rows of `array` [W, D] with a name that both tables have."""
    line = {name: i for i, name in enumerate(old_names)}
    new, old = np.array([(i, line[name]) for i, name in enumerate(names) if name in line]).T
    fresh[new] = array[old]
    return fresh


def _code_has_changed() -> InputError:
    return InputError(
        "the weights to start from",
        "they must be those of such a model",
        "Its code has changed: train without finetune.warm_start once.",
    )
