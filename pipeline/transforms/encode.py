"""Encodes user records as serialized tf.Examples."""

from collections.abc import Sequence

import tensorflow as tf
from apache_beam.typehints.decorators import no_annotations

from cmclrec_tf.schema import TIMES, Feature
from pipeline.transforms.elements import UserRecord


@no_annotations
def to_example(record: UserRecord, features: Sequence[Feature]) -> bytes:
    """Serializes a user record as a tf.Example; an empty field is kept as an empty list.

    Args:
        record: the fields of one user.
        features: the user features of the dataset.

    Returns:
        The serialized tf.Example. Equal records give equal bytes.
    """
    numeric = {feature.name for feature in features if not feature.is_text}
    example = tf.train.Example()
    for name, values in record.items():
        field = example.features.feature[name]
        if name in TIMES:
            field.int64_list.SetInParent()
            field.int64_list.value.extend(values)
        elif name in numeric:
            field.float_list.SetInParent()
            field.float_list.value.extend(values)
        else:
            field.bytes_list.SetInParent()
            field.bytes_list.value.extend(values)
    return example.SerializeToString(deterministic=True)
