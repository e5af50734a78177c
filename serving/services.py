"""The parts of TensorFlow Serving's gRPC services that a local server answers."""

import functools
import logging

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import requests, tensor_protos
from serving.c_api import SavedModelError

_LOG = logging.getLogger(__name__)
_STATUSES = {status.value[0]: status for status in grpc.StatusCode}


def _answered(method):
    """Turns what a request raises into a status; its content never reaches the log."""

    @functools.wraps(method)
    def answer(self, request, context):
        try:
            return method(self, request)
        except requests.RequestError as error:
            context.abort(error.code, error.details)
        except SavedModelError as error:
            status = _STATUSES.get(error.code, grpc.StatusCode.INTERNAL)
            context.abort(status, requests.RequestError(status, error.message).details)
        except Exception as error:
            _LOG.error("%s failed: %s", method.__name__, type(error).__name__)
            context.abort(grpc.StatusCode.INTERNAL, f"{method.__name__} failed in the server.")

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata of one model; the other methods answer UNIMPLEMENTED.

    Args:
        model: `requests.Model`.
        session: `SavedModelSession`.
    """

    def __init__(self, model, session):
        self._model, self._session = model, session

    @_answered
    def Predict(self, request):  # noqa: N802
        """Answers one signature."""
        self._model.check_spec(request)
        name, signature = self._model.signature(request.model_spec.signature_name)
        wanted = requests.outputs(signature, request)
        answers = self._session.run(name, requests.inputs(signature, request), wanted)
        response = predict_pb2.PredictResponse()
        _fill(response.model_spec, self._model, name)
        for output, array in answers.items():
            tensor_protos.encode(array, response.outputs[output])
        return response

    @_answered
    def GetModelMetadata(self, request):  # noqa: N802
        """Answers the metadata field `signature_def`."""
        if not request.metadata_field:
            raise requests.invalid(
                "GetModelMetadataRequest must specify at least one metadata_field. "
                "Ask for signature_def."
            )
        for field in request.metadata_field:
            if field != "signature_def":
                raise requests.invalid(
                    f"Metadata field {field} is not supported. Ask for signature_def."
                )
        self._model.check_spec(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in self._model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _fill(response.model_spec, self._model)
        response.metadata["signature_def"].Pack(signatures)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus of one model; reloading answers UNIMPLEMENTED.

    Args:
        model: `requests.Model`.
    """

    def __init__(self, model):
        self._model = model

    @_answered
    def GetModelStatus(self, request):  # noqa: N802
        """Answers the one version, which is available as long as the server is."""
        self._model.check_spec(request)
        status = get_model_status_pb2.ModelVersionStatus(
            version=self._model.version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
        )
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[status])


def _fill(spec, model, signature_name=""):
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature_name
