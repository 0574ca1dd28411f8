"""From pods to the addresses a Service sends to: EndpointSlices, and Endpoints for older clients.

`model` says what one pod contributes, `slices` and `subsets` plan the objects, `controllers` follow Services and pods,
`mirroring` makes slices of Endpoints that people write themselves.
"""

from orca.controllers.endpoints.controllers import EndpointsController, EndpointSliceController
from orca.controllers.endpoints.mirroring import EndpointSliceMirroringController

__all__ = ["EndpointSliceController", "EndpointSliceMirroringController", "EndpointsController"]
