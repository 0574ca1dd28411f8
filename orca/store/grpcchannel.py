"""gRPC's own channel behind the interface of ours: for TLS and for several addresses. Importing it takes 10 MB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc.aio import AioRpcError

from orca.store.wire import Code, RpcError

UNLIMITED = -1
_OPTIONS = [
    ("grpc.max_receive_message_length", UNLIMITED),
    ("grpc.max_send_message_length", UNLIMITED),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.lb_policy_name", "round_robin"),
    # Another etcd at the same address must not be reached over a connection shared with its predecessor.
    ("grpc.use_local_subchannel_pool", 1),
]
_DOWN = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class GrpcChannel:
    """``target`` as gRPC names it; ``tls`` is (authorities, key, certificate) in PEM, None: no TLS."""

    def __init__(self, target: str, tls: tuple[bytes, bytes | None, bytes | None] | None) -> None:
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(*tls), options=_OPTIONS)

    @property
    def state(self) -> tuple[bool, bool]:
        """(connected, not known to be down); tries to connect when it is neither."""
        state = self._channel.get_state(try_to_connect=True)
        return state is grpc.ChannelConnectivity.READY, state not in _DOWN

    def unary_unary(
        self,
        path: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
    ) -> Callable[..., Any]:
        """As gRPC's; calls raise RpcError."""
        inner = self._channel.unary_unary(path, request_serializer, response_deserializer)

        async def call(request: Any, timeout: float) -> Any:
            try:
                return await inner(request, timeout=timeout)
            except AioRpcError as error:
                raise _told(error) from error

        return call

    def stream_stream(
        self,
        path: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
    ) -> Callable[..., GrpcStream]:
        """As gRPC's; iteration raises RpcError."""
        inner = self._channel.stream_stream(path, request_serializer, response_deserializer)

        def call(requests: Any, timeout: float | None = None, metadata: Sequence[Any] | None = None) -> GrpcStream:
            return GrpcStream(inner(requests, timeout=timeout, metadata=metadata))

        return call

    async def close(self) -> None:
        """Ends what is under way."""
        await self._channel.close()


class GrpcStream:
    """Answers of one call."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._answers = aiter(call)

    def __aiter__(self) -> GrpcStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._answers)
        except AioRpcError as error:
            raise _told(error) from error

    def cancel(self) -> None:
        """No answer is wanted any more."""
        self._call.cancel()


def _told(error: AioRpcError) -> RpcError:
    return RpcError(Code[error.code().name], error.details() or "")
