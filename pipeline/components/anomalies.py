"""Which departures of the data from its schema stop a run, and which are only told."""

import dataclasses
import math

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from cmclrec_tf.schema import HISTORY, HISTORY_TIME, SEGMENT, SPLITS, TARGET, TEST, TRAIN, USER_ID

# Without a value of these a user record is none.
ALWAYS_VALUED = (USER_ID, SEGMENT, TARGET)

# What a cold user has none of.
OF_WARM_USERS = (HISTORY, HISTORY_TIME)

# A feature without values in a split is blamed on the data when chance is less likely than this.
CHANCE = 1e-9

CHECK_FILES = "Check the column's values in the raw files."
CHECK_RECORDS = "Check pipeline/transforms, which writes the field of every record."
CHECK_SCHEMA = "Check the raw files, or correct the schema."
CHECK_SPEC = "Check the column in the raw files and its kind in the dataset spec."
MORE_USERS = "Give more users, or change data.test_share or data.val_share."

# Kinds of anomaly that block: what makes Transform or the model wrong for every user. All others
# come with a sound draw of users too: a value, a count of values or a string that is new in val.
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

_Statistics = statistics_pb2.FeatureNameStatistics
_TYPES = {_Statistics.INT: "integer", _Statistics.FLOAT: "float"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A departure from the schema, in words that hold no value of a user.

    Attributes:
        split: where it was found.
        feature: whose it is; empty for the whole split.
        rule: what is required, and what was found.
        mend: what can be done about it; empty when nothing need be.
    """

    split: str
    feature: str
    rule: str
    mend: str = ""

    @property
    def place(self) -> str:
        """The split and the feature."""
        return f"split {self.split!r}" + (f", feature {self.feature!r}" if self.feature else "")

    def __str__(self):
        return f"{self.place}: {self.rule}"


def judge(statistics, anomalies, curated=False):
    """What blocks and what is told.

    The train split is the reference, since the schema is inferred from it. Statistics are looked at
    beside the anomalies because the test split is not validated, and because for TFDV an empty list
    is present and a NaN is a number.

    Args:
        statistics: `{split: DatasetFeatureStatistics}`.
        anomalies: `{split: Anomalies}` of the splits that were validated.
        curated: whether the schema is kept by hand; then every departure from it blocks.

    Returns:
        `(blocking, reports)`, lists of `Finding`.
    """
    found = {split: statistics.get(split) for split in SPLITS}
    empty = [split for split, of in found.items() if of is None or not of.num_examples]
    blocking = [
        Finding(split, "", "it needs at least one record, and has none", MORE_USERS)
        for split in empty
    ]
    train = {} if TRAIN in empty else _features(found[TRAIN])
    for split in SPLITS:
        if split not in empty:
            blocking += _compare(split, found[split].num_examples, _features(found[split]), train)
    seen = {(finding.split, finding.feature) for finding in blocking}
    reports = []
    for split in sorted(anomalies):
        for finding in _told(split, anomalies[split], CHECK_SCHEMA if curated else ""):
            if (split, finding.feature) not in seen:
                (blocking if finding.mend else reports).append(finding)
    return blocking, reports


def _told(split, anomalies, mend):
    """A `Finding` for each reason of TFDV; those that block have a mend, by default `mend`."""
    infos = [(name, anomalies.anomaly_info[name]) for name in sorted(anomalies.anomaly_info)]
    if anomalies.HasField("dataset_anomaly_info"):
        infos.append(("", anomalies.dataset_anomaly_info))
    for feature, info in infos:
        # Their descriptions hold values of users; the names of their types do not.
        kinds = {anomalies_pb2.AnomalyInfo.Type.Name(reason.type) for reason in info.reason}
        for kind in sorted(kinds):
            rule = f"it must keep the schema, and has {kind}"
            yield Finding(split, feature, rule, BLOCKING.get(kind, mend))


def _features(dataset):
    """`{name: FeatureNameStatistics}` of a split."""
    return {
        feature.path.step[0] if feature.path.step else feature.name: feature
        for feature in dataset.features
    }


def _compare(split, records, features, train):
    """The blocking `Finding`s of one split, at most one a feature."""
    for name in sorted({*train, *ALWAYS_VALUED}):
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
    """The field is in as many records as the schema asks for: all, or any, as in train."""
    present = _common(feature).num_non_missing if feature else 0
    if not present:
        return "it must be in the records, and is in none", CHECK_RECORDS
    everywhere = name in ALWAYS_VALUED or (train and not _common(train).num_missing)
    if everywhere and present < records:
        return f"it must be in every record, and is in {present} of {records}", CHECK_RECORDS
    return None


def _type(feature, train):
    """Values are of the type that they have in train."""
    if not train or not _common(train).tot_num_values or not _common(feature).tot_num_values:
        return None
    wanted, found = (_TYPES.get(each.type, "string") for each in (train, feature))
    if wanted != found:
        return f"its type in the train split is {wanted}, and here it is {found}", CHECK_SPEC
    return None


def _finite(feature):
    """Numbers are finite."""
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
    """Records have values where they must, and a split has some where train has."""
    common = _common(feature)
    if name in ALWAYS_VALUED and not common.min_num_values:
        return "it must have a value in every record, and has none in some", CHECK_RECORDS
    if common.tot_num_values or not train or (split == TEST and name in OF_WARM_USERS):
        return None
    of_train = _common(train)
    # At least so many train users have a value. One more without any keeps one train user from
    # speaking for everybody.
    valued = of_train.tot_num_values / max(of_train.max_num_values, 1)
    share = valued / (of_train.num_non_missing + 1)
    if (1 - share) ** records < CHANCE:
        return (
            f"some of its {records} records must have a value, as in train; none has",
            CHECK_FILES,
        )
    return None


def _common(feature):
    return getattr(feature, feature.WhichOneof("stats") or "string_stats").common_stats
