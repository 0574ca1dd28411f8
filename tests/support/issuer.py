"""An OpenID Connect issuer run by a test: its discovery document, its keys, and tokens it signs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


@dataclass
class Issuer:
    """A handler of requests. ``asked`` has the paths, ``away`` refuses all, ``documents`` are further answers."""

    url: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bearers: list[str] = field(default_factory=list)
    away: bool = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.away:
            return web.Response(status=503, text="away")
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(self.discovery())
        if request.path == "/keys":
            return web.json_response(self.key_set(), headers=self.headers)
        if request.path in self.documents:
            self.bearers.append(request.headers.get("Authorization", ""))
            return web.Response(text=self.documents[request.path])
        return web.Response(status=404)

    def discovery(self) -> dict[str, Any]:
        """The document at the well-known place."""
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys", "id_token_signing_alg_values_supported": ["RS256"]}

    def key_set(self) -> dict[str, Any]:
        """The public keys."""
        return {"keys": [{**public(key), "kid": kid, "use": "sig"} for kid, key in self.keys.items()]}

    def new_key(self, kid: str, algorithm: str = "RS256") -> None:
        """Sign with another key, too."""
        self.keys[kid] = signing_key(algorithm)

    def token(self, kid: str = "", algorithm: str = "RS256", **claims: Any) -> str:
        """Signed, good for an hour unless ``claims`` say otherwise; None leaves a claim out."""
        kid = kid or next(iter(self.keys))
        now = int(time.time())
        told = {"iss": self.url, "aud": "orca", "sub": "anna", "iat": now, "exp": now + 3600, **claims}
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(told, self.keys[kid], algorithm=algorithm, headers={"kid": kid})


def signing_key(algorithm: str) -> Any:
    """A new private key."""
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm]())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: Any) -> dict[str, Any]:
    """A private key's public part as a JSON Web Key."""
    reader = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    found: dict[str, Any] = reader.to_jwk(key.public_key(), as_dict=True)
    found.pop("key_ops", None)
    return found
