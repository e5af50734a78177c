"""Defines the components that turn raw files into user records."""

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
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import SPLITS
from pipeline.components import rejects
from pipeline.components.population import (
    COUNTS,
    check_current_users,
    check_population,
    summary,
)
from pipeline.datasets import DatasetSpec, states
from pipeline.storage.folders import AnyPath
from pipeline.transforms import counters
from pipeline.transforms.check_records import CheckRecords
from pipeline.transforms.encode import to_example
from pipeline.transforms.record import ALL_USERS, RECORD_VERSION
from pipeline.transforms.user_records import CurrentUsers, UserRecords

COMPONENT = "ExampleGen"
CURRENT = "CurrentUsers"


def example_gen(spec: DatasetSpec, data_dir: AnyPath, data: DataConfig) -> FileBasedExampleGen:
    """Returns the component that writes user records of the splits train, val and test.

    Its cache key covers the files that records are built from (size and time of change), the spec
    and the settings of the data.

    Args:
        spec: the dataset spec.
        data_dir: folder of the raw files.
        data: settings of the data.

    Returns:
        The component, with the output `examples`.
    """
    return _component(spec, data_dir, data, SPLITS, UserRecordsExecutor).with_id(COMPONENT)


def current_users(spec: DatasetSpec, data_dir: AnyPath, data: DataConfig) -> FileBasedExampleGen:
    """Returns the component that writes a record of every current user, in the split `ALL_USERS`.

    Args:
        spec: see `example_gen`.
        data_dir: see `example_gen`.
        data: see `example_gen`.

    Returns:
        The component, with the output `examples`; its cache key is that of `example_gen`.
    """
    splits = (ALL_USERS,)
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
        # Without this TFX would divide a single split into train and eval.
        output.split_config.splits.add(name=splits[0], hash_buckets=1)
    return FileBasedExampleGen(
        input_base=str(data_dir),
        # TFX requires a pattern, but the executor reads the files of the spec. A real path would
        # not do: TFX would read a bracket in it as a pattern, and then miss changes of the file.
        input_config=example_gen_pb2.Input(
            splits=[example_gen_pb2.Input.Split(name=split, pattern=split) for split in splits]
        ),
        output_config=output,
        custom_config=example_gen_pb2.CustomConfig(custom_config=value),
        custom_executor_spec=executor_spec.BeamExecutorSpec(executor),
    )


class _Executor(BaseExampleGenExecutor):
    """Writes user records, and stores the counts of users on the artifact."""

    def GetInputSourceToExamplePTransform(self):  # noqa: N802
        """Raises: the base class asks for one transform per table, and records need both tables."""
        raise TypeError("user records are made of two tables: see GenerateExamplesByBeam")

    def GenerateExamplesByBeam(self, pipeline, exec_properties):  # noqa: N802
        """Returns `{split: collection of serialized user records}`."""
        spec, data = _parameters(exec_properties)
        folder = exec_properties["input_base"]
        records = self._records(pipeline, spec, folder, data, self._rejects)
        checked = records | "Guarded" >> CheckRecords(data)
        return {
            split: records_of_split | f"Encode[{split}]" >> beam.Map(to_example, spec.features)
            for split, records_of_split in checked.items()
        }

    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802
        """Writes the splits and the rejects, checks the counts and stores them on the artifact."""
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        self._rejects = os.path.join(rejects.rejects_folder(examples), "rows")
        super().Do(input_dict, output_dict, exec_properties)
        spec, data = _parameters(exec_properties)
        counts = counters.read(self._beam.result)
        malformed = rejects.summarize(rejects.rejects_folder(examples))
        kept = rejects.kept_folder(examples)
        try:
            self._check(counts, spec, data, malformed._replace(folder=kept))
        except InputError:
            # TFX removes the outputs of a component that fails.
            rejects.copy(malformed.folder, kept)
            raise
        examples.set_string_custom_property(COUNTS, json.dumps(counts, sort_keys=True))

    def _make_beam_pipeline(self):
        # The counters are read from the finished pipeline, which TFX does not pass on.
        self._beam = super()._make_beam_pipeline()
        return self._beam


class UserRecordsExecutor(_Executor):
    """Runs `UserRecords` and fails when a split has no users."""

    def _records(self, pipeline, spec, folder, data, rejects):
        return pipeline | UserRecords(spec, folder, data, rejects=rejects)

    def _check(self, counts, spec, data, malformed):
        logging.info("User records of %s: %s", spec.name, summary(counts))
        check_population(counts, spec, data, malformed)


class CurrentUsersExecutor(_Executor):
    """Runs `CurrentUsers` and fails when there are no users."""

    def _records(self, pipeline, spec, folder, data, rejects):
        return {ALL_USERS: pipeline | CurrentUsers(spec, folder, data, rejects=rejects)}

    def _check(self, counts, spec, data, malformed):
        check_current_users(counts, spec, malformed)


def _parameters(exec_properties):
    packed = json_format.Parse(exec_properties["custom_config"], example_gen_pb2.CustomConfig())
    value = struct_pb2.Value()
    packed.custom_config.Unpack(value)
    parameters = json.loads(value.string_value)
    return DatasetSpec.from_dict(parameters["spec"]), DataConfig(**parameters["data"])
