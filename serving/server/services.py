"""Implements the parts of TensorFlow Serving's gRPC services that a local server answers."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import tensor_protos
from serving.server import requests
from serving.server.api import as_request_errors, fill

if TYPE_CHECKING:
    from serving.server.api import Api

_Method = Callable[[Any, Any, grpc.ServicerContext], Any]


def _with_status(method: _Method) -> _Method:
    """Turns an exception of a service method into a gRPC status."""

    @functools.wraps(method)
    def wrapped(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            with as_request_errors(method.__name__):
                if not request.HasField("model_spec"):
                    raise requests.invalid("Missing ModelSpec. Set model_spec.name.")
                return method(self, request, context)
        except requests.RequestError as error:
            context.abort(error.code, error.details)

    return wrapped


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other methods return UNIMPLEMENTED.

    Args:
        api: answers the requests.
    """

    def __init__(self, api: Api):
        self._api = api

    @_with_status
    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs one signature."""
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining

        answer = self._api.predict(
            "grpc",
            request.model_spec,
            request.inputs,
            requests.decode_tensor,
            request.output_filter,
            lambda: requests.check_wanted(deadline, context.is_active()),
        )
        response = predict_pb2.PredictResponse()
        fill(response.model_spec, answer.model, answer.version, answer.signature)
        for output, array in answer.outputs.items():
            tensor_protos.encode(array, response.outputs[output])
        return response

    @_with_status
    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns the metadata field `signature_def`."""
        return self._api.metadata(request.model_spec, request.metadata_field)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; reloading returns UNIMPLEMENTED.

    Args:
        api: answers the requests.
    """

    def __init__(self, api: Api):
        self._api = api

    @_with_status
    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of one version or of all versions."""
        return self._api.status(request.model_spec)
