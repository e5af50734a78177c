"""User records as serialized tf.Examples."""

import tensorflow as tf

from cmclrec_tf.schema import HISTORY_TIME


def to_example(record, features):
    """A user record as a serialized tf.Example; an empty field is there, as an empty list.

    Args:
        record: `{field: list}`.
        features: the dataset's `Feature`s.

    Returns:
        bytes, equal for equal records.
    """
    numeric = {feature.name for feature in features if feature.is_numeric}
    example = tf.train.Example()
    for name, values in record.items():
        field = example.features.feature[name]
        if name == HISTORY_TIME:
            field.int64_list.SetInParent()
            field.int64_list.value.extend(values)
        elif name in numeric:
            field.float_list.SetInParent()
            field.float_list.value.extend(values)
        else:
            field.bytes_list.SetInParent()
            field.bytes_list.value.extend(values)
    return example.SerializeToString(deterministic=True)
