"""From pods to the addresses a Service sends to: EndpointSlices, and Endpoints for older clients.

`model` says what one pod contributes, `slices` and `subsets` plan the objects, `controllers` follow Services and pods.
"""

from orca.controllers.endpoints.controllers import EndpointsController, EndpointSliceController

__all__ = ["EndpointSliceController", "EndpointsController"]
