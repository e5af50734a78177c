"""Makes valid and malformed requests for the soak."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import predict_pb2

from serving import contract, tensor_protos


def malformed(rng: random.Random) -> bytes:
    """Returns a serialized request that every server must refuse."""
    nothing = [[b""]]
    kind = rng.randrange(7)
    if kind == 0:
        return b"\xff" + rng.randbytes(rng.randrange(1, 200))
    request = predict(contract.WARM, history=nothing, exclude=nothing)
    if kind == 1:
        request.model_spec.name = rng.randbytes(8).hex()
    elif kind == 2:
        request.model_spec.version.value = 10**9
    elif kind == 3:
        request.model_spec.signature_name = "hot\0"
    elif kind == 4:
        request.inputs["history"].tensor_shape.dim[0].size = rng.choice([-1, 2, 2**40])
    elif kind == 5:
        del request.inputs["exclude"]
    else:
        request = predict(contract.SERVING_DEFAULT, examples=[b"\xff" * rng.randrange(1, 1000)])
    return request.SerializeToString()


def predict(signature: str, **inputs: Sequence[Any]) -> predict_pb2.PredictRequest:
    """Returns a PredictRequest with string inputs."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = contract.MODEL_NAME
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        tensor_protos.encode(np.array(values, object), request.inputs[name])
    return request


def record(user: dict[str, Any]) -> bytes:
    """Returns a serialized user record."""
    example = example_pb2.Example()
    for name, value in user.items():
        feature = example.features.feature[name]
        if isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            texts = [value] if isinstance(value, str) else value
            feature.bytes_list.value.extend(text.encode() for text in texts)
    return example.SerializeToString()
