"""A typed client of the served model; TensorFlow Serving and the local server alike."""

if __name__ == "__main__":
    # Ahead of the imports below: the commands import gRPC and TensorFlow late, and quietly.
    from serving.commands.recommend import recommend

    recommend(prog_name="python -m serving.client.sync")

import grpc

from serving.client import channels
from serving.client.answers import Recommendations, ServingError
from serving.client.base import Asking
from serving.client.users import ROWS

__all__ = ["ROWS", "Client", "Recommendations", "ServingError"]


class Client(Asking):
    """Asks a served model for recommendations; a context manager, safe to share among threads.

    More than ROWS users go in several requests, one after the other.
    """

    def _open(self):
        self._channel = channels.open_channel(grpc, self.target, self._credentials)
        self._methods, self._probe = channels.methods(self._channel), channels.probe(self._channel)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _run(self, steps):
        try:
            asked = next(steps)
            while True:
                try:
                    responses = [self._send(call) for call in asked]
                except ServingError as error:
                    asked = steps.throw(error)
                else:
                    asked = steps.send(responses)
        except StopIteration as done:
            return done.value

    def _send(self, call):
        seconds = channels.request_seconds(self.timeout)
        try:
            return self._methods[call.method](
                call.request, timeout=seconds, wait_for_ready=self.wait_for_ready
            )
        except grpc.RpcError as error:
            cause = self._unreachable() if channels.is_late(error) else None
            raise channels.failure(self.target, call.what, cause or error) from error

    def _unreachable(self):
        try:
            self._probe()
        except grpc.RpcError as error:
            return error if channels.is_unreachable(error) else None
