"""etcd's messages and services as they are generated in aetcd, without its client, whose import takes gRPC along."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "orca_etcd_messages"


def _generated() -> Any:
    found = importlib.util.find_spec("aetcd")  # finds, but does not import
    if found is None or found.origin is None:
        raise ModuleNotFoundError("aetcd is not installed")
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(Path(found.origin).parent / "rpc")]
    sys.modules.setdefault(_PACKAGE, package)
    return importlib.import_module(f"{_PACKAGE}.rpc_pb2")


rpc = _generated()
"""The messages: ``rpc.TxnRequest``, …"""


def service(channel: Any, name: str) -> Any:
    """A service of etcd ("KV", "Watch", …) over a channel: its methods as attributes."""
    described = rpc.DESCRIPTOR.services_by_name[name]
    methods = {}
    for method in described.methods:
        if method.server_streaming and not method.client_streaming:
            continue  # only snapshots of the whole database, which nobody takes here
        make = channel.stream_stream if method.client_streaming else channel.unary_unary
        encode = GetMessageClass(method.input_type).SerializeToString
        decode = GetMessageClass(method.output_type).FromString
        methods[method.name] = make(f"/{described.full_name}/{method.name}", encode, decode)
    return SimpleNamespace(**methods)
