"""CertificateApproval and CertificateSubjectRestriction: who may approve and sign for a signer, and for which names.

Reference: k8s.io/kubernetes ``plugin/pkg/admission/certificates``.
"""

import base64
import binascii

from cryptography import x509
from cryptography.x509.oid import NameOID

from orca.admission.chain import CREATE, UPDATE, Attributes
from orca.api.builtin import CERTIFICATESIGNINGREQUESTS
from orca.api.objects import Obj
from orca.auth.authorization import Authorizer
from orca.auth.identity import MASTERS, Action

_GROUP = "certificates.k8s.io"
_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


class CertificateApproval:
    """The ``approval`` and ``status`` doors of signing requests need ``approve`` and ``sign`` on the signer."""

    kinds = frozenset({CERTIFICATESIGNINGREQUESTS})

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, attrs: Attributes) -> None:
        """Raises ApiError 403."""
        if attrs.of(CERTIFICATESIGNINGREQUESTS, UPDATE, subresource="approval"):
            await self._check(attrs, "approve")
        elif attrs.of(CERTIFICATESIGNINGREQUESTS, UPDATE, subresource="status"):
            new, old = (attrs.obj or {}).get("status") or {}, (attrs.old or {}).get("status") or {}
            if any(new.get(field) != old.get(field) for field in ("certificate", "conditions")):
                await self._check(attrs, "sign")

    async def _check(self, attrs: Attributes, verb: str) -> None:
        signer = ((attrs.old or attrs.obj or {}).get("spec") or {}).get("signerName") or ""
        domain = signer.partition("/")[0]
        for wanted in (signer, f"{domain}/*"):
            if (await self._authorizer.authorize(attrs.user, Action(verb, _GROUP, "signers", "", wanted))).allowed:
                return
        raise attrs.forbidden(f'user not permitted to {verb} requests with signerName "{signer}"')


class CertificateSubjectRestriction:
    """Nobody becomes ``system:masters`` by a request to the general client signer."""

    kinds = frozenset({CERTIFICATESIGNINGREQUESTS})

    async def validate(self, attrs: Attributes) -> None:
        """Raises ApiError 403."""
        if not attrs.of(CERTIFICATESIGNINGREQUESTS, CREATE) or attrs.obj is None:
            return
        spec = attrs.obj.get("spec") or {}
        if spec.get("signerName") == _CLIENT_SIGNER and MASTERS in _organizations(spec):
            raise attrs.forbidden(f"use of {_CLIENT_SIGNER} signer with {MASTERS} group is not allowed")


def _organizations(spec: Obj) -> list[str]:
    try:
        subject = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or "")).subject
    except (binascii.Error, ValueError, x509.InvalidVersion):
        return []
    return [str(part.value) for part in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
