"""The parts of TensorFlow Serving's gRPC services that a local server answers."""

import functools
import time

from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import tensor_protos
from serving.server import requests
from serving.server.api import fill, refusals


def _answered(method):
    """Turns what a request raises into a status."""

    @functools.wraps(method)
    def answer(self, request, context):
        try:
            with refusals(method.__name__):
                if not request.HasField("model_spec"):
                    raise requests.invalid("Missing ModelSpec. Set model_spec.name.")
                return method(self, request, context)
        except requests.RequestError as error:
            context.abort(error.code, error.details)

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other methods answer UNIMPLEMENTED.

    Args:
        api: `Api`.
    """

    def __init__(self, api):
        self._api = api

    @_answered
    def Predict(self, request, context):  # noqa: N802
        """Answers one signature."""
        remaining = context.time_remaining()
        answer = self._api.predict(
            "grpc",
            request.model_spec,
            request.inputs,
            requests.tensor,
            request.output_filter,
            None if remaining is None else time.monotonic() + remaining,
        )
        response = predict_pb2.PredictResponse()
        fill(response.model_spec, answer.model, answer.version, answer.signature)
        for output, array in answer.outputs.items():
            tensor_protos.encode(array, response.outputs[output])
        return response

    @_answered
    def GetModelMetadata(self, request, context):  # noqa: N802
        """Answers the metadata field `signature_def`."""
        return self._api.metadata(request.model_spec, request.metadata_field)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; reloading answers UNIMPLEMENTED.

    Args:
        api: `Api`.
    """

    def __init__(self, api):
        self._api = api

    @_answered
    def GetModelStatus(self, request, context):  # noqa: N802
        """Answers the states of one version or of all."""
        return self._api.status(request.model_spec)
