"""What a node may change of a volume that it was told to remove."""

import pytest

from orca.admission import Attributes
from orca.admission.node_restriction import NodeRestriction
from orca.api.builtin import CERTIFICATESIGNINGREQUESTS, PERSISTENTVOLUMES
from orca.api.errors import ApiError
from orca.api.finalizers import VOLUME_CONTENT
from orca.api.objects import Obj
from orca.auth import UserInfo
from tests.support import strange_certificates as strange
from tests.unit.auth.fakes import Reader

NODE = UserInfo("system:node:n1", groups=("system:nodes", "system:authenticated"))
OLD: Obj = {
    "metadata": {"name": "pv", "finalizers": ["other", VOLUME_CONTENT], "resourceVersion": "1"},
    "spec": {"nfs": {"server": "192.0.2.1", "path": "/a"}},
}


async def change(new: Obj) -> None:
    await NodeRestriction(Reader()).admit(Attributes("UPDATE", PERSISTENTVOLUMES, "", "pv", new, OLD, NODE))


async def test_a_node_lets_go_of_an_empty_volume() -> None:
    await change({**OLD, "metadata": {"name": "pv", "finalizers": ["other"], "resourceVersion": "2"}})


@pytest.mark.parametrize(
    "new",
    [
        {**OLD, "metadata": {**OLD["metadata"], "finalizers": [VOLUME_CONTENT]}},
        {**OLD, "metadata": {**OLD["metadata"], "labels": {"a": "b"}}},
        {**OLD, "spec": {"nfs": {"server": "192.0.2.1", "path": "/"}}},
    ],
)
async def test_and_changes_nothing_else(new: Obj) -> None:
    with pytest.raises(ApiError) as caught:
        await change(new)
    assert caught.value.code == 403


@pytest.mark.parametrize("request_", [strange.signing_request(version=5), strange.request_of_no_text()])
async def test_a_node_asks_for_no_certificate_in_a_form_of_its_own(request_: str) -> None:
    spec = {"signerName": "kubernetes.io/kubelet-serving", "request": request_}
    asked = {"metadata": {"name": "c"}, "spec": spec}
    with pytest.raises(ApiError) as caught:
        await NodeRestriction(Reader()).admit(
            Attributes("CREATE", CERTIFICATESIGNINGREQUESTS, "", "c", asked, None, NODE)
        )
    assert (caught.value.code, "unable to parse csr" in caught.value.message) == (403, True)
