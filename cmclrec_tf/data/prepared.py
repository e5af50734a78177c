"""From a prepared dataset to batches: the one way that training and evaluation read data."""

import dataclasses
import pathlib
from collections.abc import Mapping

import tensorflow as tf
import yaml

from cmclrec_tf.data import parsing, shards, stream, vocabulary
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import FIRST_ID, ITEMS, SPLITS, TRAIN, USER_ID, Feature, Schema

DESCRIPTION = "dataset.yaml"
VOCABULARIES = "vocabularies"
SHUFFLE_BUFFER = 100_000


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """What the data half of the pipeline leaves, ready to be read.

    Attributes:
        name: of the dataset.
        schema: `Schema` with vocabulary sizes and the train split's numeric statistics.
        max_history: L.
        files: split -> paths of gzipped TFRecords of transformed user records.
        vocabularies: name -> path, see `Schema.vocabularies`.
        users: split -> number of records.
    """

    name: str
    schema: Schema
    max_history: int
    files: Mapping[str, tuple[str, ...]]
    vocabularies: Mapping[str, str]
    users: Mapping[str, int]

    @classmethod
    def build(cls, features, max_history, files, vocabularies, name="dataset"):
        """Joins the parts that a pipeline leaves in several places; sizes are counted here.

        Raises:
            InputError: a vocabulary that is missing, or a damaged file.
        """
        tokens = {
            field: vocabulary.read(vocabularies[field])
            for field in Schema(tuple(features)).vocabularies
        }
        size = {field: len(listed) + FIRST_ID for field, listed in tokens.items()}
        sized = tuple(dataclasses.replace(f, size=size.get(f.name, 0)) for f in features)
        schema = Schema(sized, items=size[ITEMS], digest=vocabulary.digest(tokens))
        files = {split: tuple(sorted(paths)) for split, paths in files.items()}
        users = {split: shards.count(paths) for split, paths in files.items()}
        dataset = cls(name, schema, max_history, files, dict(vocabularies), users)
        return dataclasses.replace(dataset, schema=dataset._with_statistics())

    @classmethod
    def load(cls, folder):
        """Reads a prepared dataset from its folder.

        Raises:
            InputError: the folder, its description or a vocabulary is missing, a file is damaged,
                or records are lost.
        """
        folder = pathlib.Path(folder)
        path = folder / DESCRIPTION
        if not path.is_file():
            raise InputError(
                folder, f"a prepared dataset holds {DESCRIPTION}", "Run `cmclrec prepare` first."
            )
        described = yaml.safe_load(path.read_text())
        features = tuple(Feature(**values) for values in described["features"])
        names = Schema(features).vocabularies
        dataset = cls.build(
            features,
            described["max_history"],
            {split: [str(p) for p in (folder / split).glob("*.gz")] for split in SPLITS},
            {name: str(folder / VOCABULARIES / name) for name in names},
            described["name"],
        )
        if dataset.users != described["users"]:
            raise InputError(
                f"{folder} with {dataset.users} records",
                f"its {DESCRIPTION} says {described['users']}",
                "Prepare the dataset again.",
            )
        return dataset

    def with_history(self, length):
        """The same dataset, read with histories of the newest `length` items.

        Raises:
            InputError: the records were prepared with fewer.
        """
        if length > self.max_history:
            raise InputError(
                f"data.max_history={length}",
                f"{self.name} was prepared with {self.max_history}",
                "Prepare it again with this config, or lower data.max_history.",
            )
        return dataclasses.replace(self, max_history=length)

    def batches(self, split, batch_size=256, shuffle=None, seed=0):
        """Batches of a split as a `tf.data.Dataset` of dicts.

        `history` int32 [B, L] left-padded, unknown items dropped; `target` int32 [B, m];
        `features` {name: ids int32 [B, W] or float32 [B, n], NaN = missing}; `is_cold` bool [B];
        `user_key`, `profile_key` int64 [B], equal for equal users and for equal profiles.

        Args:
            split: `train`, `val` or `test`.
            batch_size: B; the last batch may be smaller.
            shuffle: anew in every epoch; by default only `train` is.
            seed: of the shuffling.
        """
        records = self._records(split)
        if split == TRAIN if shuffle is None else shuffle:
            records = records.shuffle(SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=True)
        parsed = records.batch(batch_size).map(self._parse, num_parallel_calls=tf.data.AUTOTUNE)
        # Keras then knows where an epoch ends.
        steps = tf.data.experimental.assert_cardinality(self.steps(split, batch_size))
        return parsed.apply(steps).prefetch(tf.data.AUTOTUNE).with_options(_by_record())

    def stream(self, split, batch_size, seed=0, first_epoch=0):
        """Endless batches for training: the contents of `batches`, shuffled anew in every epoch.

        The order is a pure function of seed and epoch, so that a training that starts again at an
        epoch sees the batches that the first one would have seen. Give Keras
        `steps_per_epoch=steps(split, batch_size)`.

        Records are read into memory once, see `stream.in_memory`; those of more than
        `stream.IN_MEMORY_USERS` users are read anew in every epoch.

        Args:
            split, batch_size: as in `batches`.
            seed: of the shuffling.
            first_epoch: the epoch of the first batch.
        """
        records = self._records(split)
        how = {"batch_size": batch_size, "seed": seed, "first_epoch": first_epoch}
        if self.users[split] > stream.IN_MEMORY_USERS:
            endless = stream.from_files(self.files[split], self._parse, **how)
        else:
            endless = stream.in_memory(records, self._parse, **how)
        return endless.prefetch(tf.data.AUTOTUNE).with_options(_by_record())

    def steps(self, split, batch_size):
        """Batches in an epoch; the last one may be smaller."""
        return -(-self.users[split] // batch_size)

    def user_ids(self, split):
        """The split's user ids, in the order of unshuffled batches."""
        spec = {USER_ID: tf.io.FixedLenFeature([], tf.string)}
        return [
            vocabulary.decode(user)
            for batch in self._records(split).batch(1024).as_numpy_iterator()
            for user in tf.io.parse_example(batch, spec)[USER_ID].numpy()
        ]

    def _records(self, split):
        if not self.files.get(split):
            raise InputError(
                f"split {split!r} of {self.name}",
                "it must hold files",
                "Prepare the dataset again.",
            )
        return shards.read(self.files[split])

    def _parse(self, serialized):
        return parsing.parse(serialized, self.schema, self.max_history)

    def _with_statistics(self):
        """The schema with mean and scale of the numeric features over the train split."""
        numeric = [f for f in self.schema.features if f.is_numeric]
        if not numeric or not self.files.get(TRAIN):
            return self.schema
        spec = {f.name: tf.io.RaggedFeature(tf.float32) for f in numeric}
        zeros = tf.zeros([len(numeric)], tf.float64)

        def add(state, serialized):
            parsed = tf.io.parse_example(serialized, spec)
            values = [tf.cast(parsed[f.name].flat_values, tf.float64) for f in numeric]
            values = [tf.boolean_mask(v, tf.math.is_finite(v)) for v in values]
            return (
                state[0] + tf.stack([tf.cast(tf.size(v), tf.float64) for v in values]),
                state[1] + tf.stack([tf.reduce_sum(v) for v in values]),
                state[2] + tf.stack([tf.reduce_sum(v * v) for v in values]),
            )

        count, total, squares = self._records(TRAIN).batch(1024).reduce((zeros,) * 3, add)
        count = tf.maximum(count, 1.0)
        mean = total / count
        scale = tf.sqrt(tf.maximum(squares / count - mean**2, 0.0))
        known = {
            f.name: dataclasses.replace(f, mean=float(m), scale=_scale(float(m), float(s)))
            for f, m, s in zip(numeric, mean, scale, strict=True)
        }
        features = tuple(known.get(f.name, f) for f in self.schema.features)
        return dataclasses.replace(self.schema, features=features)


def _scale(mean, deviation):
    """1 for a column that is constant but for rounding."""
    return deviation if deviation > 1e-6 * max(1.0, abs(mean)) else 1.0


def _by_record():
    """Workers that are given the dataset part its batches; parting its files would be uneven."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def check_replaceable(folder) -> None:
    """Whether a prepared dataset may be written to `folder`: it is new, empty or an older one.

    Raises:
        InputError: it holds something else.
    """
    folder = pathlib.Path(folder)
    if folder.is_dir() and ((folder / DESCRIPTION).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise InputError(
            folder,
            "only a prepared dataset is replaced, and it is not a prepared dataset",
            "Give another folder, or remove it.",
        )


def write_description(folder, name, features, max_history, counts) -> None:
    """Writes `dataset.yaml`, what `PreparedDataset.load` reads first.

    Args:
        folder: of the prepared dataset.
        features: the dataset's `Feature`s.
        counts: {split: users}, which `PreparedDataset.load` holds the files to.
    """
    kept = [
        {"name": f.name, "kind": f.kind, "prefix": f.prefix, "numbers": f.numbers} for f in features
    ]
    described = {
        "name": name,
        "max_history": max_history,
        "users": dict(counts),
        "features": kept,
    }
    (pathlib.Path(folder) / DESCRIPTION).write_text(yaml.safe_dump(described, sort_keys=False))
