"""Loads and runs a SavedModel with TensorFlow's C API, as a C++ server does."""

import contextlib
import ctypes
import os
import pathlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

from cmclrec_tf.errors import ReadableError
from serving.c_api import library, tensors

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

_TAG = b"serve"
_OK, _CANCELLED, _INVALID_ARGUMENT, _NOT_FOUND, _RESOURCE_EXHAUSTED = 0, 1, 3, 5, 8
_UNIMPLEMENTED = 12

# `{input or output: (its place in the graph, its DataType)}`.
_Endpoints = dict[str, tuple[library.Output, int]]


class SavedModelError(ReadableError):
    """TensorFlow refused to load or to run a SavedModel.

    Attributes:
        code: the TF_Code; its numbers are those of gRPC's status codes.
        message: TensorFlow's message; it may quote the input.
    """

    def __init__(self, code: int, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(f"status {code}: {' '.join(message.split())}")

    def __reduce__(self) -> tuple[type["SavedModelError"], tuple[int, str]]:
        return type(self), (self.code, self.message)


class SavedModelSession:
    """One loaded SavedModel; a context manager that threads may share.

    Args:
        folder: folder of the SavedModel.
        intra_op_threads, inter_op_threads: sizes of TensorFlow's thread pools. 0 lets TensorFlow
            choose. With -1 for `inter_op_threads`, a request runs in the thread that calls `run`.

    Attributes:
        signatures: `{name: SignatureDef}`.

    Raises:
        SavedModelError: TensorFlow cannot load the folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
    ) -> None:
        self._library = library.load()
        self._graph: int | None = None
        self._session: int | None = None
        self._running = 0
        self._idle = threading.Condition()
        try:
            self._load(pathlib.Path(folder), intra_op_threads, inter_op_threads)
        except BaseException:
            self.close()
            raise

    def _load(self, folder: pathlib.Path, intra_op_threads: int, inter_op_threads: int) -> None:
        from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

        config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads,
            inter_op_parallelism_threads=inter_op_threads,
            # A trainer may be using the same accelerator.
            gpu_options=config_pb2.GPUOptions(allow_growth=True),
        ).SerializeToString()
        c_library = self._library
        self._graph = c_library.TF_NewGraph()
        with contextlib.ExitStack() as stack:
            options = c_library.TF_NewSessionOptions()
            stack.callback(c_library.TF_DeleteSessionOptions, options)
            meta_graph = c_library.TF_NewBuffer()
            stack.callback(c_library.TF_DeleteBuffer, meta_graph)
            with self._status() as status:
                c_library.TF_SetConfig(options, config, len(config), status)
            with self._status() as status:
                self._session = c_library.TF_LoadSessionFromSavedModel(
                    options,
                    None,
                    str(folder).encode(),
                    (ctypes.c_char_p * 1)(_TAG),
                    1,
                    self._graph,
                    meta_graph,
                    status,
                )
            serialized = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
        definition = meta_graph_pb2.MetaGraphDef.FromString(serialized)
        # The ops that restore and initialise the model have signatures with reserved names.
        self.signatures: dict[str, SignatureDef] = {
            name: signature
            for name, signature in definition.signature_def.items()
            if not name.startswith("__saved_model")
        }
        self._inputs = {n: self._endpoints(s.inputs) for n, s in self.signatures.items()}
        self._outputs = {n: self._endpoints(s.outputs) for n, s in self.signatures.items()}

    def _endpoints(self, infos: Mapping[str, "TensorInfo"]) -> _Endpoints:
        """Returns the places of a signature's inputs or outputs in the graph."""
        endpoints = {}
        for alias, info in infos.items():
            name, _, index = info.name.partition(":")
            operation = self._library.TF_GraphOperationByName(self._graph, name.encode())
            if not operation:
                raise SavedModelError(_NOT_FOUND, f"no operation {name!r} in the graph")
            endpoints[alias] = (library.Output(operation, int(index or 0)), info.dtype)
        return endpoints

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, ArrayLike],
        outputs: Iterable[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Runs one signature.

        Args:
            signature_name: one of `signatures`.
            inputs: `{name: array}` with every input of the signature; strings as str or bytes.
            outputs: names of the outputs to return; all if None.

        Returns:
            `{name: array}`; strings as object arrays of bytes.

        Raises:
            SavedModelError: there is no such signature or output, an input is missing, unknown or
                of another type, the session is closed, or the graph fails.
        """
        if signature_name not in self.signatures:
            raise SavedModelError(
                _NOT_FOUND, f"signature {signature_name!r}, known are {sorted(self.signatures)}"
            )
        sources, targets = self._inputs[signature_name], self._outputs[signature_name]
        if set(inputs) != set(sources):
            raise SavedModelError(
                _INVALID_ARGUMENT, f"inputs {sorted(inputs)}, expected {sorted(sources)}"
            )
        names = list(targets) if outputs is None else list(outputs)
        if not set(names) <= set(targets):
            raise SavedModelError(
                _INVALID_ARGUMENT, f"outputs {sorted(names)}, known are {sorted(targets)}"
            )
        arrays = {}
        for name, value in inputs.items():
            try:
                arrays[name] = tensors.as_array(value, sources[name][1])
            except TypeError as error:
                raise SavedModelError(_INVALID_ARGUMENT, f"input {name!r}: {error}") from error
        feeds = [(*sources[name], array) for name, array in arrays.items()]
        with self._busy() as session:
            values = self._run(session, feeds, [targets[name][0] for name in names])
        return dict(zip(names, values, strict=True))

    def _run(
        self,
        session: int,
        feeds: list[tuple[library.Output, int, NDArray[Any]]],
        fetches: list[library.Output],
    ) -> list[NDArray[Any]]:
        c_library = self._library
        with contextlib.ExitStack() as stack:
            try:
                values = [
                    stack.enter_context(tensors.tensor(array, code)) for _, code, array in feeds
                ]
            except MemoryError as error:
                raise SavedModelError(_RESOURCE_EXHAUSTED, str(error)) from error
            results = (ctypes.c_void_p * len(fetches))()
            with self._status() as status:
                c_library.TF_SessionRun(
                    session,
                    None,
                    (library.Output * len(feeds))(*(place for place, _, _ in feeds)),
                    (ctypes.c_void_p * len(feeds))(*values),
                    len(feeds),
                    (library.Output * len(fetches))(*fetches),
                    results,
                    len(fetches),
                    None,
                    0,
                    None,
                    status,
                )
            for result in results:
                stack.callback(c_library.TF_DeleteTensor, result)
            try:
                return [tensors.read(result) for result in results]
            except TypeError as error:
                raise SavedModelError(_UNIMPLEMENTED, f"an output: {error}") from error

    def close(self) -> None:
        """Waits for running requests and frees the model; a second call does nothing."""
        with self._idle:
            session, self._session = self._session, None
            self._idle.wait_for(lambda: not self._running)
            graph, self._graph = self._graph, None
        if session:
            with self._status() as status:
                self._library.TF_CloseSession(session, status)
            with self._status() as status:
                self._library.TF_DeleteSession(session, status)
        if graph:
            self._library.TF_DeleteGraph(graph)

    def __enter__(self) -> "SavedModelSession":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _busy(self) -> Iterator[int]:
        """Yields the session and keeps `close` waiting meanwhile."""
        with self._idle:
            if not self._session:
                raise SavedModelError(_CANCELLED, "the session is closed")
            session = self._session
            self._running += 1
        try:
            yield session
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    @contextlib.contextmanager
    def _status(self) -> Iterator[int]:
        """Yields a TF_Status for one call and raises the error that the call reports."""
        status = self._library.TF_NewStatus()
        try:
            yield status
            code = self._library.TF_GetCode(status)
            if code != _OK:
                message = self._library.TF_Message(status).decode("utf-8", "replace")
                raise SavedModelError(code, message)
        finally:
            self._library.TF_DeleteStatus(status)
