"""Credentials that a program of the user's prints: the ``exec`` of a kubeconfig.

Reference: client-go ``plugin/pkg/client/auth/exec`` and ``tools/clientcmd/validation.go``; texts of errors are theirs,
because people search for them. As there, one program serves all clients of a process that name it alike, and what it
printed is used until it expires or a server refuses it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from orca.api.objects import Obj
from orca.api.times import parse_time
from orca.client.clock import SystemClock

_GROUP = "client.authentication.k8s.io"
_VERSIONS = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1")
_MODES = ("Never", "IfAvailable", "Always")


class PluginFailed(ValueError):
    """The program cannot be run, or what it prints cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a program printed: a token, a PEM pair, or both. Without ``expires`` it is good until it is refused."""

    token: str = ""
    certificate: str = ""
    key: str = ""
    expires: datetime | None = None


class ExecPlugin:
    """One program with its arguments. Safe to use from several threads, of which one runs it and the others wait."""

    def __init__(self, spec: Obj, cluster: Obj, user: str, directory: Path) -> None:
        """``spec`` is the field ``exec`` of ``user`` in a kubeconfig of ``directory``, ``cluster`` what the program is
        told of the cluster where it wants to know. Raises PluginFailed."""
        self._version = _text(spec, "apiVersion", user)
        if self._version not in _VERSIONS:
            raise PluginFailed(f"exec plugin: invalid apiVersion {self._version!r}; known are {', '.join(_VERSIONS)}")
        command = _text(spec, "command", user)
        # As file names in a kubeconfig; a bare name is looked for in $PATH.
        self._command = str(directory / command) if os.sep in command else command
        mode = spec.get("interactiveMode") or ("IfAvailable" if self._version == _VERSIONS[1] else "")
        if not mode:
            raise PluginFailed(f"interactiveMode must be specified for {user} to use exec authentication plugin")
        if mode not in _MODES:
            raise PluginFailed(
                f"invalid interactiveMode for {user}: {mode!r}; must be one of {', '.join(map(repr, _MODES))}"
            )
        self._mode = mode
        self._arguments = [str(one) for one in spec.get("args") or ()]
        self._environment: dict[str, str] = {}
        for one in spec.get("env") or ():
            if not one.get("name"):
                raise PluginFailed(f"env variable name must be specified for {user} to use exec authentication plugin")
            self._environment[str(one["name"])] = str(one.get("value") or "")
        self._hint = str(spec.get("installHint") or "")
        self._cluster = cluster if spec.get("provideClusterInfo") else None
        self._lock = threading.Lock()
        self._clock = SystemClock()
        self._held: Credential | None = None

    def credential(self) -> Credential:
        """What holds now; runs the program if need be, for as long as that takes. Raises PluginFailed."""
        with self._lock:
            if self._held is None or self._is_over(self._held):
                self._held = self._run()
            return self._held

    def is_over(self, seen: Credential) -> bool:
        """Whether somebody who uses ``seen`` has to ask again."""
        return self._held is not seen or self._is_over(seen)

    def refused(self, seen: Credential) -> None:
        """A server did not take ``seen``: the program is asked for another one next."""
        with self._lock:
            if self._held is seen:
                self._held = None

    def _is_over(self, held: Credential) -> bool:
        return held.expires is not None and self._clock.now() >= held.expires

    def _run(self) -> Credential:
        interactive = self._may_ask()
        spec: Obj = {"interactive": interactive}
        if self._cluster is not None:
            spec["cluster"] = self._cluster
        asked = {"kind": "ExecCredential", "apiVersion": self._version, "spec": spec}
        environment = {**os.environ, **self._environment, "KUBERNETES_EXEC_INFO": orjson.dumps(asked).decode()}
        try:
            done = subprocess.run(
                [self._command, *self._arguments],
                env=environment,
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                check=False,
            )
        except FileNotFoundError as error:
            hint = f"\n\n{self._hint}" if self._hint else ""
            text = f"exec: executable {self._command} not found{hint}"
            raise PluginFailed(f"getting credentials: {text}") from error
        except OSError as error:
            text = f"exec: executable {self._command} cannot be run: {error.strerror}"
            raise PluginFailed(f"getting credentials: {text}") from error
        if done.returncode:
            text = f"exec: executable {self._command} failed with exit code {done.returncode}"
            raise PluginFailed(f"getting credentials: {text}")
        try:
            return _printed(done.stdout, self._version)
        except PluginFailed as error:
            raise PluginFailed(f"getting credentials: {error}") from error

    def _may_ask(self) -> bool:
        """Whether the program gets our terminal."""
        if self._mode == "Never":
            return False
        terminal = sys.stdin is not None and sys.stdin.isatty()
        if self._mode == "Always" and not terminal:
            text = "exec plugin cannot support interactive mode: standard input is not a terminal"
            raise PluginFailed(f"getting credentials: {text}")
        return terminal


_known: dict[bytes, ExecPlugin] = {}


def plugin_of(spec: Any, cluster: Obj, user: str, directory: Path) -> ExecPlugin:
    """The one for this program in this process. Raises PluginFailed."""
    if not isinstance(spec, dict):
        raise PluginFailed(f"exec of {user} is not an object")
    key = orjson.dumps([spec, cluster if spec.get("provideClusterInfo") else None, str(directory)])
    found = _known.get(key)
    if found is None:
        found = _known[key] = ExecPlugin(spec, cluster, user, directory)
    return found


def _text(spec: Obj, field: str, user: str) -> str:
    value = spec.get(field)
    if not value:
        raise PluginFailed(f"{field} must be specified for {user} to use exec authentication plugin")
    return str(value)


def _printed(output: bytes, version: str) -> Credential:
    try:
        found = orjson.loads(output)
    except orjson.JSONDecodeError as error:
        raise PluginFailed(f"decoding stdout: {error}") from error
    if not isinstance(found, dict) or found.get("kind") != "ExecCredential":
        raise PluginFailed("decoding stdout: it is no ExecCredential")
    if found.get("apiVersion") != version:
        told = found.get("apiVersion")
        raise PluginFailed(f"exec plugin is configured to use API version {version}, plugin returned version {told}")
    status = found.get("status")
    if not isinstance(status, dict):
        raise PluginFailed("exec plugin didn't return a status field")
    token, certificate, key = (
        str(status.get(field) or "") for field in ("token", "clientCertificateData", "clientKeyData")
    )
    if not token and not certificate and not key:
        raise PluginFailed("exec plugin didn't return a token or cert/key pair")
    if bool(certificate) != bool(key):
        raise PluginFailed("exec plugin returned only certificate or key, not both")
    ends = status.get("expirationTimestamp")
    try:
        expires = parse_time(ends) if ends else None
    except (TypeError, ValueError) as error:
        raise PluginFailed(f"decoding stdout: expirationTimestamp: {error}") from error
    return Credential(token, certificate, key, expires)
