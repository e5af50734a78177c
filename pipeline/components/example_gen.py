"""The component that turns raw files into user records by split."""

import dataclasses
import json
import logging
import os

import apache_beam as beam
from google.protobuf import any_pb2, json_format, struct_pb2
from tfx.components import FileBasedExampleGen
from tfx.components.example_gen.base_example_gen_executor import BaseExampleGenExecutor
from tfx.dsl.components.base import executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from cmclrec_tf.config import DataConfig
from cmclrec_tf.schema import SPLITS
from pipeline.components.population import check_population, summary
from pipeline.datasets import DatasetSpec
from pipeline.transforms import counters
from pipeline.transforms.example import to_example
from pipeline.transforms.record import RECORD_VERSION
from pipeline.transforms.user_records import UserRecords

COMPONENT = "ExampleGen"
COUNTS = "user_counts"


def example_gen(spec, data_dir, data):
    """The component; its output `examples` has the splits train, val and test.

    The cache key covers the two files that records are made of (size and time of change), the spec
    and the config.

    Args:
        spec: the `DatasetSpec`.
        data_dir: folder of the raw files.
        data: `DataConfig`.
    """
    tables = (spec.interactions.file, spec.users.file)
    parameters = {
        "files": {file: _state(os.path.join(data_dir, file)) for file in tables},
        "spec": spec.to_dict(),
        "data": dataclasses.asdict(data),
        "record_version": RECORD_VERSION,
    }
    value = any_pb2.Any()
    value.Pack(struct_pb2.Value(string_value=json.dumps(parameters, sort_keys=True)))
    return FileBasedExampleGen(
        input_base=str(data_dir),
        # A pattern may not be empty. What it matches is not read: TFX would take a bracket in the
        # name of a folder or a file for a pattern, and then see no change of the file.
        input_config=example_gen_pb2.Input(
            splits=[example_gen_pb2.Input.Split(name=split, pattern=split) for split in SPLITS]
        ),
        custom_config=example_gen_pb2.CustomConfig(custom_config=value),
        custom_executor_spec=executor_spec.BeamExecutorSpec(UserRecordsExecutor),
    ).with_id(COMPONENT)


def user_counts(examples):
    """`{counter: users}` that the component left on its output artifact."""
    return json.loads(examples.get_string_custom_property(COUNTS))


class UserRecordsExecutor(BaseExampleGenExecutor):
    """Runs `UserRecords` and writes the splits, or fails when a split has nobody."""

    def GetInputSourceToExamplePTransform(self):  # noqa: N802
        """The base class asks for a transform a table; records need both tables at once."""
        raise TypeError("user records are made of two tables: see GenerateExamplesByBeam")

    def GenerateExamplesByBeam(self, pipeline, exec_properties):  # noqa: N802
        """`{split: collection of serialized user records}`."""
        spec, data = _parameters(exec_properties)
        records = pipeline | UserRecords(spec, exec_properties["input_base"], data)
        return {
            split: records[split] | f"Encode[{split}]" >> beam.Map(to_example, spec.features)
            for split in SPLITS
        }

    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802
        """Writes the splits and records the counts on the artifact."""
        super().Do(input_dict, output_dict, exec_properties)
        spec, data = _parameters(exec_properties)
        counts = counters.read(self._beam.result)
        logging.info("User records of %s: %s", spec.name, summary(counts))
        check_population(counts, spec, data)
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.set_string_custom_property(COUNTS, json.dumps(counts, sort_keys=True))

    def _make_beam_pipeline(self):
        self._beam = super()._make_beam_pipeline()
        return self._beam


def _state(path):
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _parameters(exec_properties):
    packed = json_format.Parse(exec_properties["custom_config"], example_gen_pb2.CustomConfig())
    value = struct_pb2.Value()
    packed.custom_config.Unpack(value)
    parameters = json.loads(value.string_value)
    return DatasetSpec.from_dict(parameters["spec"]), DataConfig(**parameters["data"])
