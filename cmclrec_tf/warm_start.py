"""Training that begins with the weights of an earlier model, whatever its vocabularies were."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np

from cmclrec_tf.config import SPLIT_SETTINGS
from cmclrec_tf.data import vocabulary
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import FIRST_ID, ITEMS

WEIGHTS = "weights.npz"
VOCABULARIES = "vocabularies"


def save(model, dataset, folder) -> None:
    """Writes what `WarmStart.read` reads: plain arrays, no pickle, and the vocabularies.

    Args:
        model: a trained `CMCLRec`.
        dataset: the `PreparedDataset` that it was trained on.
        folder: made if need be.
    """
    folder = pathlib.Path(folder)
    (folder / VOCABULARIES).mkdir(parents=True, exist_ok=True)
    facts = _facts(model.schema, model.config)
    arrays = {str(i): np.asarray(v) for i, v in enumerate(model.trainable_variables)}
    np.savez(folder / WEIGHTS, facts=np.array(json.dumps(facts)), **arrays)
    for name, path in dataset.vocabularies.items():
        shutil.copyfile(path, folder / VOCABULARIES / name)


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """Weights of a trained model.

    Attributes:
        facts: what they depend on: the settings of the model and of the split, the user features.
        arrays: the trainable weights, in the model's order.
        tokens: `{vocabulary: tokens}`.
    """

    facts: dict
    arrays: list
    tokens: dict

    @classmethod
    def read(cls, folder):
        """Reads what `save` wrote.

        Raises:
            InputError: it is not there.
        """
        folder = pathlib.Path(folder)
        if not (folder / WEIGHTS).is_file():
            raise InputError(
                folder, f"a model to start from has {WEIGHTS} beside it", "Train it anew once."
            )
        with np.load(folder / WEIGHTS, allow_pickle=False) as file:
            arrays = dict(file)
        facts = json.loads(str(arrays.pop("facts")))
        tokens = {p.name: vocabulary.read(str(p)) for p in (folder / VOCABULARIES).iterdir()}
        return cls(facts, [arrays[str(i)] for i in range(len(arrays))], tokens)

    def check(self, schema, config) -> None:
        """Raises `InputError` that names the first setting in which a new model would differ.

        Args:
            schema: the new model's `Schema`; its vocabularies may be others.
            config: its `Config`. With another draw of the users the old model has seen users of
                the new validation and test split.
        """
        for part, values in _facts(schema, config).items():
            for name in [*values, *(name for name in self.facts[part] if name not in values)]:
                now, then = (facts.get(name, "nothing") for facts in (values, self.facts[part]))
                if now != then:
                    raise InputError(
                        f"{part}.{name}={now}",
                        f"the weights to start from were trained with {then}",
                        "Give the same, or train without finetune.warm_start once.",
                    )

    def carry_to(self, model, vocabularies) -> None:
        """Gives a built model the weights; rows of tokens that are new keep what they have.

        Args:
            model: a `CMCLRec`.
            vocabularies: `{name: path}` of the dataset that it is trained on.

        Raises:
            InputError: as in `check`, or the code of the model has changed.
        """
        self.check(model.schema, model.config)
        variables, by_token = model.trainable_variables, _by_token(model)
        if len(variables) != len(self.arrays):
            raise _other_code()
        for variable, array in zip(variables, self.arrays, strict=True):
            name = by_token.get(id(variable))
            if name:
                new = vocabulary.read(vocabularies[name])
                array = _rows(np.array(variable), new, array, self.tokens[name])
            if array.shape != tuple(variable.shape):
                raise _other_code()
            variable.assign(array)


def _facts(schema, config):
    values = config.to_dict()
    return {
        "model": values["model"],
        "data": {name: values["data"][name] for name in ("max_history", *SPLIT_SETTINGS)},
        "features": {f.name: f"{f.kind}, prefix {f.prefix}, {f.numbers}" for f in schema.features},
    }


def _by_token(model):
    """`{id of a variable with a row a token: name of the vocabulary}`."""
    found = {id(model.items.embeddings): ITEMS}
    tokens = model.mapper.tokens
    for feature, layer in zip(tokens.features, tokens.value_layers, strict=True):
        if not feature.is_numeric:
            found[id(layer.embeddings)] = feature.name
    return found


def _rows(fresh, tokens, array, old_tokens):
    """`fresh` [V, ...] with the rows of `array` [W, ...] where a token is in both, and specials."""
    line = {token: i for i, token in enumerate(old_tokens)}
    shared = [(i, line[token]) for i, token in enumerate(tokens) if token in line]
    fresh[:FIRST_ID] = array[:FIRST_ID]
    if shared:
        new, old = np.array(shared).T + FIRST_ID
        fresh[new] = array[old]
    return fresh


def _other_code():
    return InputError(
        "the weights to start from",
        "they must be those of such a model",
        "Its code has changed: train without finetune.warm_start once.",
    )
