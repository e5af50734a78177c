"""The components that turn raw files into user records."""

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
from pipeline.components.population import check_anybody, check_population, summary
from pipeline.datasets import DatasetSpec, states
from pipeline.transforms import counters
from pipeline.transforms.example import to_example
from pipeline.transforms.guard import Guarded
from pipeline.transforms.read_tables import REJECTS
from pipeline.transforms.record import EVERYBODY, RECORD_VERSION
from pipeline.transforms.user_records import CurrentUsers, UserRecords

COMPONENT = "ExampleGen"
CURRENT = "CurrentUsers"
COUNTS = "user_counts"


def example_gen(spec, data_dir, data):
    """The component; its output `examples` has the splits train, val and test.

    The cache key covers the files that records are made of (size and time of change), the spec
    and the config.

    Args:
        spec: the `DatasetSpec`.
        data_dir: folder of the raw files.
        data: `DataConfig`.
    """
    return _component(spec, data_dir, data, SPLITS, UserRecordsExecutor).with_id(COMPONENT)


def current_users(spec, data_dir, data):
    """The component of all users as they are now; its output `examples` has the split everybody.

    Args, cache key: as of `example_gen`.
    """
    splits = (EVERYBODY,)
    return _component(spec, data_dir, data, splits, CurrentUsersExecutor).with_id(CURRENT)


def _component(spec, data_dir, data, splits, executor):
    parameters = {
        "files": states(spec, data_dir),
        "spec": spec.to_dict(),
        "data": dataclasses.asdict(data),
        "record_version": RECORD_VERSION,
    }
    value = any_pb2.Any()
    value.Pack(struct_pb2.Value(string_value=json.dumps(parameters, sort_keys=True)))
    output = example_gen_pb2.Output()
    if len(splits) == 1:
        # TFX would make a train and an eval split of it, unless it is told.
        output.split_config.splits.add(name=splits[0], hash_buckets=1)
    return FileBasedExampleGen(
        input_base=str(data_dir),
        # A pattern may not be empty. What it matches is not read: TFX would take a bracket in the
        # name of a folder or a file for a pattern, and then see no change of the file.
        input_config=example_gen_pb2.Input(
            splits=[example_gen_pb2.Input.Split(name=split, pattern=split) for split in splits]
        ),
        output_config=output,
        custom_config=example_gen_pb2.CustomConfig(custom_config=value),
        custom_executor_spec=executor_spec.BeamExecutorSpec(executor),
    )


def user_counts(examples):
    """`{counter: users}` that the component left on its output artifact."""
    return json.loads(examples.get_string_custom_property(COUNTS))


def rejects_folder(examples):
    """Where the malformed rows lie that were left out of an `examples` artifact."""
    return os.path.join(examples.uri, REJECTS)


class _Executor(BaseExampleGenExecutor):
    """Writes user records and leaves the counts of users on the artifact."""

    def GetInputSourceToExamplePTransform(self):  # noqa: N802
        """The base class asks for a transform a table; records need both tables at once."""
        raise TypeError("user records are made of two tables: see GenerateExamplesByBeam")

    def GenerateExamplesByBeam(self, pipeline, exec_properties):  # noqa: N802
        """`{split: collection of serialized user records}`."""
        spec, data = _parameters(exec_properties)
        folder = exec_properties["input_base"]
        records = self._records(pipeline, spec, folder, data, self._rejects) | Guarded(data)
        return {
            split: found | f"Encode[{split}]" >> beam.Map(to_example, spec.features)
            for split, found in records.items()
        }

    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802
        """Writes the splits and the rejects, and records the counts on the artifact."""
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        self._rejects = os.path.join(rejects_folder(examples), "rows")
        super().Do(input_dict, output_dict, exec_properties)
        spec, data = _parameters(exec_properties)
        counts = counters.read(self._beam.result)
        self._check(counts, spec, data)
        examples.set_string_custom_property(COUNTS, json.dumps(counts, sort_keys=True))

    def _make_beam_pipeline(self):
        self._beam = super()._make_beam_pipeline()
        return self._beam


class UserRecordsExecutor(_Executor):
    """Runs `UserRecords` and writes the splits, or fails when a split has nobody."""

    def _records(self, pipeline, spec, folder, data, rejects):
        return pipeline | UserRecords(spec, folder, data, rejects=rejects)

    def _check(self, counts, spec, data):
        logging.info("User records of %s: %s", spec.name, summary(counts))
        check_population(counts, spec, data)


class CurrentUsersExecutor(_Executor):
    """Runs `CurrentUsers`, or fails when there is nobody."""

    def _records(self, pipeline, spec, folder, data, rejects):
        return {EVERYBODY: pipeline | CurrentUsers(spec, folder, data, rejects=rejects)}

    def _check(self, counts, spec, data):
        check_anybody(counts, spec)


def _parameters(exec_properties):
    packed = json_format.Parse(exec_properties["custom_config"], example_gen_pb2.CustomConfig())
    value = struct_pb2.Value()
    packed.custom_config.Unpack(value)
    parameters = json.loads(value.string_value)
    return DatasetSpec.from_dict(parameters["spec"]), DataConfig(**parameters["data"])
