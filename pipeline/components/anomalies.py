"""Decides which anomalies of the data stop a run and which are only reported."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from cmclrec_tf.schema import HISTORY, HISTORY_TIME, SEGMENT, SPLITS, TARGET, TEST, TRAIN, USER_ID

# Every user record has a value of these fields.
REQUIRED_FIELDS = (USER_ID, SEGMENT, TARGET)

# Cold users have no value of these fields.
WARM_FIELDS = (HISTORY, HISTORY_TIME)

# A feature without values in a split is an error if chance explains it with less probability.
CHANCE = 1e-9

CHECK_FILES = "Check the column's values in the raw files."
CHECK_RECORDS = "Check pipeline/transforms, which writes this field of every record."
CHECK_SCHEMA = "Check the raw files, or correct the schema."
CHECK_SPEC = "Check the column in the raw files and its kind in the dataset spec."
MORE_USERS = "Give more users, or change data.test_share or data.val_share."

# Kinds of anomaly that stop a run, because they make Transform or the model wrong for every user,
# with the fix of each. Other kinds also occur in correct data, since each split has other users: a
# value, a number of values or a string that is new in val.
BLOCKING = {
    "DATASET_LOW_NUM_EXAMPLES": MORE_USERS,
    "NO_DATA_IN_SPAN": MORE_USERS,
    "FEATURE_TYPE_LOW_FRACTION_PRESENT": CHECK_RECORDS,
    "FEATURE_TYPE_LOW_NUMBER_PRESENT": CHECK_RECORDS,
    "FEATURE_TYPE_NOT_PRESENT": CHECK_RECORDS,
    "SCHEMA_MISSING_COLUMN": CHECK_RECORDS,
    "UNEXPECTED_DATA_TYPE": CHECK_SPEC,
    "FLOAT_TYPE_HAS_INF": CHECK_FILES,
    "FLOAT_TYPE_HAS_NAN": CHECK_FILES,
}

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatistics
_FeatureStatistics = statistics_pb2.FeatureNameStatistics
_TYPES = {_FeatureStatistics.INT: "integer", _FeatureStatistics.FLOAT: "float"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """An anomaly, described without any value of a user.

    Attributes:
        split: name of the split.
        feature: name of the feature; empty if the whole split is concerned.
        rule: what is required, and how the data differ.
        fix: what the user can do about it; empty if the run may continue.
    """

    split: str
    feature: str
    rule: str
    fix: str = ""

    @property
    def place(self) -> str:
        """The split and the feature."""
        return f"split {self.split!r}" + (f", feature {self.feature!r}" if self.feature else "")

    def __str__(self):
        return f"{self.place}: {self.rule}"


def judge(
    statistics: Mapping[str, Statistics],
    anomalies: Mapping[str, anomalies_pb2.Anomalies],
    curated: bool = False,
) -> tuple[list[Finding], list[Finding]]:
    """Divides the anomalies into those that stop the run and those that are reported.

    The train split is the reference, since the schema is inferred from it. The statistics are
    needed in addition to the anomalies, because TFDV does not validate the test split, takes an
    empty list for present, and takes NaN for a number.

    Args:
        statistics: statistics by split.
        anomalies: anomalies by split, of the splits that were validated.
        curated: whether the schema is curated; then every anomaly stops the run.

    Returns:
        `(blocking, reports)`.
    """
    datasets = {
        split: statistics[split]
        for split in SPLITS
        if split in statistics and statistics[split].num_examples
    }
    blocking = [
        Finding(split, "", "it needs at least one record, and has none", MORE_USERS)
        for split in SPLITS
        if split not in datasets
    ]
    train = _features(datasets[TRAIN]) if TRAIN in datasets else {}
    for split, dataset in datasets.items():
        blocking += _compare(split, dataset.num_examples, _features(dataset), train)
    already = {(finding.split, finding.feature) for finding in blocking}
    reports: list[Finding] = []
    for split in sorted(anomalies):
        for finding in _findings(split, anomalies[split], CHECK_SCHEMA if curated else ""):
            if (split, finding.feature) not in already:
                (blocking if finding.fix else reports).append(finding)
    return blocking, reports


def _findings(split, anomalies, fix):
    """Yields a `Finding` for each reason of TFDV; those of kinds that do not block get `fix`."""
    infos = [(name, anomalies.anomaly_info[name]) for name in sorted(anomalies.anomaly_info)]
    if anomalies.HasField("dataset_anomaly_info"):
        infos.append(("", anomalies.dataset_anomaly_info))
    for feature, info in infos:
        # The names of the kinds hold no values of users; TFDV's descriptions do.
        kinds = {anomalies_pb2.AnomalyInfo.Type.Name(reason.type) for reason in info.reason}
        for kind in sorted(kinds):
            rule = f"it must keep the schema, and has {kind}"
            yield Finding(split, feature, rule, BLOCKING.get(kind, fix))


def _features(dataset):
    """Returns `{name: FeatureNameStatistics}` of a split."""
    return {
        feature.path.step[0] if feature.path.step else feature.name: feature
        for feature in dataset.features
    }


def _compare(
    split: str, records: int, features: Mapping[str, Any], train: Mapping[str, Any]
) -> Iterator[Finding]:
    """Yields the blocking findings of a split, at most one per feature.

    Each of the checks below returns `(rule, fix)`, or None if it passes.
    """
    for name in sorted({*train, *REQUIRED_FIELDS}):
        feature = features.get(name)
        fault = (
            _presence(name, records, feature, train.get(name))
            or _type(feature, train.get(name))
            or _finite(feature)
            or _values(split, name, records, feature, train.get(name))
        )
        if fault:
            yield Finding(split, name, *fault)


def _presence(name, records, feature, train):
    """Checks that the field is in as many records as in train: in all of them, or in some."""
    present = _common(feature).num_non_missing if feature else 0
    if not present:
        return "it must be in the records, and is in none", CHECK_RECORDS
    everywhere = name in REQUIRED_FIELDS or (train and not _common(train).num_missing)
    if everywhere and present < records:
        return f"it must be in every record, and is in {present} of {records}", CHECK_RECORDS
    return None


def _type(feature, train):
    """Checks that values have the type that they have in train."""
    if not train or not _common(train).tot_num_values or not _common(feature).tot_num_values:
        return None
    in_train, here = (_TYPES.get(each.type, "string") for each in (train, feature))
    if in_train != here:
        return f"its type in the train split is {in_train}, and here it is {here}", CHECK_SPEC
    return None


def _finite(feature):
    """Checks that numbers are finite."""
    if not feature.HasField("num_stats"):
        return None
    numbers = feature.num_stats
    nans = max((histogram.num_nan for histogram in numbers.histograms), default=0)
    if nans:
        return f"its values must be numbers, and {nans} are NaN", CHECK_FILES
    if not all(map(math.isfinite, (numbers.min, numbers.max, numbers.mean, numbers.std_dev))):
        return "its values must be finite, and some are not", CHECK_FILES
    return None


def _values(split, name, records, feature, train):
    """Checks that records have values where they must, and a split has some if train has."""
    common = _common(feature)
    if name in REQUIRED_FIELDS and not common.min_num_values:
        return "it must have a value in every record, and has none in some", CHECK_RECORDS
    if common.tot_num_values or not train or (split == TEST and name in WARM_FIELDS):
        return None
    common_in_train = _common(train)
    # At least this many train users have a value. One more user, without a value, is added: a
    # single train user must not decide for all users.
    valued = common_in_train.tot_num_values / max(common_in_train.max_num_values, 1)
    share = valued / (common_in_train.num_non_missing + 1)
    if (1 - share) ** records < CHANCE:
        return (
            f"some of its {records} records must have a value, as in train; none has",
            CHECK_FILES,
        )
    return None


def _common(feature):
    return getattr(feature, feature.WhichOneof("stats") or "string_stats").common_stats
