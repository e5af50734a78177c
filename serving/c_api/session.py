"""A SavedModel run by TensorFlow's C API: what a C++ server would load, loaded the same way."""

import contextlib
import ctypes
import pathlib
import threading

from cmclrec_tf.errors import ReadableError
from serving.c_api import library, tensors

_TAG = b"serve"
_OK, _CANCELLED, _INVALID_ARGUMENT, _NOT_FOUND, _RESOURCE_EXHAUSTED = 0, 1, 3, 5, 8
_UNIMPLEMENTED = 12


class SavedModelError(ReadableError):
    """TensorFlow refused to load or to run a SavedModel.

    Attributes:
        code: the TF_Code, numbered like the status codes of gRPC.
        message: TensorFlow's message; it may quote the input.
    """

    def __init__(self, code, message):
        self.code, self.message = code, message
        super().__init__(f"status {code}: {' '.join(message.split())}")

    def __reduce__(self):
        return type(self), (self.code, self.message)


class SavedModelSession:
    """One loaded SavedModel; threads may share it.

    Usable as a context manager.

    Args:
        folder: the SavedModel.
        intra_op_threads, inter_op_threads: sizes of TensorFlow's thread pools; 0 lets it choose,
            and -1 of the latter runs in the thread that asks.

    Attributes:
        signatures: `{name: SignatureDef}`.

    Raises:
        SavedModelError: TensorFlow cannot load the folder.
    """

    def __init__(self, folder, intra_op_threads=0, inter_op_threads=0):
        self._library = library.load()
        self._graph = self._session = None
        self._running = 0
        self._idle = threading.Condition()
        try:
            self._load(pathlib.Path(folder), intra_op_threads, inter_op_threads)
        except BaseException:
            self.close()
            raise

    def _load(self, folder, intra_op_threads, inter_op_threads):
        from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

        config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads,
            inter_op_parallelism_threads=inter_op_threads,
            # A trainer may be using the same accelerator.
            gpu_options=config_pb2.GPUOptions(allow_growth=True),
        ).SerializeToString()
        tensorflow = self._library
        self._graph = tensorflow.TF_NewGraph()
        with contextlib.ExitStack() as stack:
            options = tensorflow.TF_NewSessionOptions()
            stack.callback(tensorflow.TF_DeleteSessionOptions, options)
            meta_graph = tensorflow.TF_NewBuffer()
            stack.callback(tensorflow.TF_DeleteBuffer, meta_graph)
            with self._status() as status:
                tensorflow.TF_SetConfig(options, config, len(config), status)
            with self._status() as status:
                self._session = tensorflow.TF_LoadSessionFromSavedModel(
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
        # Restoring and initialising ops carry signatures of their own, with reserved names.
        self.signatures = {
            name: signature
            for name, signature in definition.signature_def.items()
            if not name.startswith("__saved_model")
        }
        self._ends = {
            name: (self._tensors(signature.inputs), self._tensors(signature.outputs))
            for name, signature in self.signatures.items()
        }

    def _tensors(self, infos):
        """{alias: (TF_Output, DataType)} of one side of a signature."""
        found = {}
        for alias, info in infos.items():
            name, _, index = info.name.partition(":")
            operation = self._library.TF_GraphOperationByName(self._graph, name.encode())
            if not operation:
                raise SavedModelError(_NOT_FOUND, f"no operation {name!r} in the graph")
            found[alias] = (library.Output(operation, int(index or 0)), info.dtype)
        return found

    def run(self, signature_name, inputs, outputs=None):
        """Answers one request.

        Args:
            signature_name: one of `signatures`.
            inputs: `{name: array}`, every input of the signature; strings as str or bytes.
            outputs: names of the outputs wanted; by default all.

        Returns:
            `{name: array}`; strings as object arrays of bytes.

        Raises:
            SavedModelError: an unknown signature or output, missing, extra or mistyped inputs, a
                closed session, or whatever the graph answers with.
        """
        if signature_name not in self.signatures:
            raise SavedModelError(
                _NOT_FOUND, f"signature {signature_name!r}, known are {sorted(self.signatures)}"
            )
        known_inputs, known_outputs = self._ends[signature_name]
        if set(inputs) != set(known_inputs):
            raise SavedModelError(
                _INVALID_ARGUMENT, f"inputs {sorted(inputs)}, expected {sorted(known_inputs)}"
            )
        wanted = list(known_outputs) if outputs is None else list(outputs)
        if not set(wanted) <= set(known_outputs):
            raise SavedModelError(
                _INVALID_ARGUMENT, f"outputs {sorted(wanted)}, known are {sorted(known_outputs)}"
            )
        fed = {}
        for name, value in inputs.items():
            try:
                fed[name] = tensors.as_array(value, known_inputs[name][1])
            except TypeError as error:
                raise SavedModelError(_INVALID_ARGUMENT, f"input {name!r}: {error}") from error
        with self._busy() as session:
            return self._run(session, fed, known_inputs, wanted, known_outputs)

    def _run(self, session, fed, known_inputs, wanted, known_outputs):
        tensorflow = self._library
        with contextlib.ExitStack() as stack:
            try:
                values = [
                    stack.enter_context(tensors.tensor(array, known_inputs[name][1]))
                    for name, array in fed.items()
                ]
            except MemoryError as error:
                raise SavedModelError(_RESOURCE_EXHAUSTED, str(error)) from error
            answers = (ctypes.c_void_p * len(wanted))()
            with self._status() as status:
                tensorflow.TF_SessionRun(
                    session,
                    None,
                    (library.Output * len(fed))(*(known_inputs[name][0] for name in fed)),
                    (ctypes.c_void_p * len(fed))(*values),
                    len(fed),
                    (library.Output * len(wanted))(*(known_outputs[name][0] for name in wanted)),
                    answers,
                    len(wanted),
                    None,
                    0,
                    None,
                    status,
                )
            for answer in answers:
                stack.callback(tensorflow.TF_DeleteTensor, answer)
            try:
                return {n: tensors.read(a) for n, a in zip(wanted, answers, strict=True)}
            except TypeError as error:
                raise SavedModelError(_UNIMPLEMENTED, f"an output: {error}") from error

    def close(self) -> None:
        """Waits for the requests under way and frees the model; a second call does nothing."""
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

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @contextlib.contextmanager
    def _busy(self):
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
    def _status(self):
        """A TF_Status for one call; raises what it reports."""
        status = self._library.TF_NewStatus()
        try:
            yield status
            code = self._library.TF_GetCode(status)
            if code != _OK:
                message = self._library.TF_Message(status).decode("utf-8", "replace")
                raise SavedModelError(code, message)
        finally:
            self._library.TF_DeleteStatus(status)
