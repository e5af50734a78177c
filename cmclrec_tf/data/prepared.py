"""Reads a prepared dataset as batches, for training, evaluation, export and experiments."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import tensorflow as tf

from cmclrec_tf.config import Config
from cmclrec_tf.data import event_times, parsing, shards, stream, vocabulary
from cmclrec_tf.data.description import DESCRIPTION, check_history, check_length
from cmclrec_tf.data.statistics import with_statistics
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import FIRST_ID, ITEMS, SPLITS, TRAIN, USER_ID, Feature, Schema
from cmclrec_tf.types import Batch, BoolB, KeysB, Tensor

Keep: TypeAlias = Callable[[KeysB], BoolB]
"""Keys of users -> whether each is read."""

VOCABULARIES = "vocabularies"
SHUFFLE_BUFFER = 100_000
READ_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A prepared dataset: the files of each split, the vocabularies and the schema.

    Attributes:
        name: name of the dataset.
        schema: the user features, with vocabulary sizes and statistics of the train split.
        max_history: L, the length of the histories in a batch.
        files: paths of gzipped TFRecords of transformed user records, by split.
        vocabularies: paths of the vocabulary files, by the names in `Schema.vocabularies`.
        users: number of records that are read, by split.
        keep: which train users are read, see `with_train_users`; None reads all.
        times: whether batches have `history_time` and `now`, see `with_times`.

    Example:
        >>> import tempfile
        >>> import cmclrec_tf as cm
        >>> user = {"user_id": "ann", "history": ["tea", "milk"], "target": ["bread"], "age": 31.0}
        >>> folder = tempfile.mkdtemp()
        >>> _ = cm.prepare_tables({"train": [user]}, [cm.Feature("age", "numeric")], folder)
        >>> data = cm.PreparedDataset.load(folder)
        >>> data.users["train"], data.schema.items  # three items, PAD and OOV
        (1, 5)
        >>> next(iter(data.with_history(4).batches("train", batch_size=1)))["history"].shape
        TensorShape([1, 4])
    """

    name: str
    schema: Schema
    max_history: int
    files: Mapping[str, tuple[str, ...]]
    vocabularies: Mapping[str, str]
    users: Mapping[str, int]
    keep: Keep | None = None
    times: bool = False

    @classmethod
    def build(
        cls,
        features: Iterable[Feature],
        max_history: int,
        files: Mapping[str, Iterable[str]],
        vocabularies: Mapping[str, str],
        name: str = "dataset",
    ) -> "PreparedDataset":
        """Builds a dataset from parts in several places, as a pipeline leaves them.

        Sizes and statistics are computed here. Args: see the attributes.

        Raises:
            InputError: a vocabulary is missing, or a file is damaged.
        """
        features = tuple(features)
        tokens = {
            field: vocabulary.read(vocabularies[field]) for field in Schema(features).vocabularies
        }
        size = {field: len(lines) + FIRST_ID for field, lines in tokens.items()}
        sized = tuple(dataclasses.replace(f, size=size.get(f.name, 0)) for f in features)
        schema = Schema(sized, items=size[ITEMS], digest=vocabulary.digest(tokens))
        paths = {split: tuple(sorted(names)) for split, names in files.items()}
        users = {split: shards.count(names) for split, names in paths.items()}
        if paths.get(TRAIN) and any(f.is_numeric for f in features):
            schema = with_statistics(schema, shards.read(paths[TRAIN]))
        return cls(name, schema, max_history, paths, dict(vocabularies), users)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], max_history: int | None = None
    ) -> "PreparedDataset":
        """Reads a prepared dataset from its folder.

        Args:
            folder: path of the folder.
            max_history: L; by default the length that the dataset was prepared with.

        Raises:
            InputError: the dataset was prepared with shorter histories, which is noticed before any
                record is read; the folder, its description or a vocabulary is missing, a file is
                damaged, or records are missing.
        """
        folder = pathlib.Path(folder)
        description = check_history(folder, max_history)
        length = description["max_history"] if max_history is None else max_history
        features = tuple(Feature(**values) for values in description["features"])
        names = Schema(features).vocabularies
        dataset = cls.build(
            features,
            length,
            {split: [str(p) for p in (folder / split).glob("*.gz")] for split in SPLITS},
            {name: str(folder / VOCABULARIES / name) for name in names},
            description["name"],
        )
        if dataset.users != description["users"]:
            raise InputError(
                f"{folder} with {dataset.users} records",
                f"its {DESCRIPTION} says {description['users']}",
                "Prepare the dataset again.",
            )
        return dataset

    def with_history(self, length: int) -> "PreparedDataset":
        """Returns the same dataset with histories of the newest `length` items.

        Raises:
            InputError: the dataset was prepared with shorter histories.
        """
        check_length(length, self.max_history, self.name)
        return dataclasses.replace(self, max_history=length)

    def read_by(self, config: Config) -> "PreparedDataset":
        """Returns the same dataset with the histories, and the times, that a model reads.

        Args:
            config: its `Config`.

        Raises:
            InputError: as in `with_history` and `with_times`.
        """
        dataset = self.with_history(config.data.max_history)
        return dataset.with_times() if config.model.times else dataset

    def with_times(self) -> "PreparedDataset":
        """Returns the same dataset with the times of the events in its batches.

        Raises:
            InputError: the records of a split have no times.
        """
        for split in self.files:
            event_times.check(self, split)
        return dataclasses.replace(self, times=True)

    def with_train_users(self, keep: Keep) -> "PreparedDataset":
        """Returns the same dataset with a part of the train users.

        Vocabularies and statistics remain those of all train users.

        Args:
            keep: returns which users are in the part, bool [B], for their `user_key`, int64 [B].

        Raises:
            InputError: no user is in it.
        """
        part = dataclasses.replace(self, keep=keep)
        records = part.records(TRAIN).batch(READ_BATCH)
        count = sum(len(batch) for batch in records.as_numpy_iterator())
        if not count:
            raise InputError(
                f"0 of {self.users[TRAIN]} train users of {self.name}",
                "a part of the train users must hold one",
                "Take a larger share.",
            )
        return dataclasses.replace(part, users={**self.users, TRAIN: count})

    def batches(
        self, split: str, batch_size: int = 256, shuffle: bool | None = None, seed: int = 0
    ) -> tf.data.Dataset:
        """Returns one epoch of a split as a `tf.data.Dataset` of `types.Batch`.

        A batch is a dict: `history` int32 [B, L] left-padded, without unknown items; `target`
        int32 [B, N]; `features` {name: ids int32 [B, N] or float32 [B, N], NaN = missing};
        `is_cold` bool [B]; `user_key` and `profile_key` int64 [B], equal for equal users and for
        equal profiles.

        Args:
            split: `train`, `val` or `test`.
            batch_size: B; the last batch may be smaller.
            shuffle: whether users come in another order in every epoch; by default only those of
                `train` do.
            seed: seeds the shuffling.
        """
        records = self.records(split)
        if split == TRAIN if shuffle is None else shuffle:
            records = records.shuffle(SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=True)
        parsed = records.batch(batch_size).map(self._parse, num_parallel_calls=tf.data.AUTOTUNE)
        # With a known cardinality Keras knows where an epoch ends.
        steps = tf.data.experimental.assert_cardinality(self.steps(split, batch_size))
        return parsed.apply(steps).prefetch(tf.data.AUTOTUNE).with_options(_shard_by_record())

    def stream(
        self,
        split: str,
        batch_size: int,
        seed: int = 0,
        first_epoch: int = 0,
        one_shape: bool = False,
    ) -> tf.data.Dataset:
        """Returns endless training batches like those of `batches`, shuffled in every epoch.

        All have one size: the last one of an epoch is filled up with the first users of the epoch.
        The order depends on seed and epoch only, so a training that resumes at an epoch gets the
        same batches as one that was never stopped. Pass Keras
        `steps_per_epoch=steps(split, batch_size)`.

        Records are read into memory once (see `stream.in_memory`); with more than
        `stream.IN_MEMORY_USERS` users they are read from their files in every epoch, where the last
        batch of an epoch may be smaller.

        Args:
            split: `train`, `val` or `test`.
            batch_size: B; with fewer users, a batch has them all.
            seed: seeds the shuffling.
            first_epoch: epoch of the first batch.
            one_shape: whether all batches have the same shape, for XLA: see `stream.in_memory`.
        """
        records = self.records(split)
        if self.users[split] > stream.IN_MEMORY_USERS:
            select = self._kept if self.keep and split == TRAIN else None
            endless = stream.from_files(
                self.files[split], self._parse, batch_size, seed, first_epoch, select
            )
        else:
            endless = stream.in_memory(
                records, self._parse, batch_size, seed, first_epoch, one_shape
            )
        return endless.prefetch(tf.data.AUTOTUNE).with_options(_shard_by_record())

    def steps(self, split: str, batch_size: int) -> int:
        """Returns the number of batches in an epoch; the last one may be smaller."""
        return -(-self.users[split] // batch_size)

    def user_ids(self, split: str) -> list[str]:
        """Returns the user ids of a split, in the order of unshuffled batches."""
        spec = {USER_ID: tf.io.FixedLenFeature([], tf.string)}
        return [
            vocabulary.decode(user)
            for batch in self.records(split).batch(READ_BATCH).as_numpy_iterator()
            for user in tf.io.parse_example(batch, spec)[USER_ID].numpy()
        ]

    def records(self, split: str) -> tf.data.Dataset:
        """Returns the serialized records of a split that are read, in the order of the files.

        Raises:
            InputError: the split has no files.
        """
        if not self.files.get(split):
            raise InputError(
                f"split {split!r} of {self.name}",
                "it must hold files",
                "Prepare the dataset again.",
            )
        records = shards.read(self.files[split])
        if self.keep is None or split != TRAIN:
            return records
        return records.batch(READ_BATCH).map(self._kept).unbatch()

    def _kept(self, serialized: Tensor) -> Tensor:
        """Returns the serialized records [n] of [N] that `keep` selects."""
        assert self.keep
        return tf.boolean_mask(serialized, self.keep(parsing.user_keys(serialized)))

    def _parse(self, serialized: Tensor) -> Batch:
        batch = parsing.parse(serialized, self.schema, self.max_history)
        if self.times:
            batch["history_time"], batch["now"] = parsing.parse_times(serialized, self.max_history)
        return batch


def _shard_by_record() -> tf.data.Options:
    """Lets `tf.distribute` share the records among workers; sharing the files would be uneven."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
