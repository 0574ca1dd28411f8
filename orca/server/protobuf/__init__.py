"""Request bodies in protobuf, which kubectl from 1.32 sends for built-in kinds; answers are always JSON.

``messages.txt`` tells, for every message, the field numbers, JSON names and types (facts of Kubernetes v1.36); the
decoder walks the bytes with it and makes the JSON object a client would have sent instead. Fields of other versions
are passed over, as Go does it; what may be a field of ours whose number is not known here is refused: silently lost it
would be worse than a request made again in JSON.

Reference: k8s.io/apimachinery ``runtime/serializer/protobuf`` (envelope), ``generated.proto`` of k8s.io/api.
"""

from orca.server.protobuf.decoder import MEDIA, decode_body

__all__ = ["MEDIA", "decode_body"]
