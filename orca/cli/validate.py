"""``orca validate -f``: what the API server would say to a manifest, without a server.

Schema, unknown fields, defaults and semantic validation are those the server runs; what depends on the cluster
(existing namespaces, quotas, admission) is not judged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from orca.api import strategy
from orca.api.builtin import BUILTIN
from orca.api.errors import ApiError, FieldError
from orca.api.objects import Obj, ensure_meta, name
from orca.api.schema import decode

_SUFFIXES = (".yaml", ".yml", ".json")


@click.command("validate")
@click.option(
    "-f", "--filename", "paths", multiple=True, required=True, help="Manifests: files, folders, or - for stdin."
)
def command(paths: tuple[str, ...]) -> None:
    """Check manifests against the Kubernetes schema."""
    good = bad = 0
    for source, text in _sources(paths):
        for number, obj, broken in _documents(text):
            where = f"{source}, document {number}"
            problems = [broken] if broken else check(obj)
            for problem in problems:
                click.echo(f"{where}: {problem}", err=True)
            if problems:
                bad += 1
            else:
                good += 1
                click.echo(f"{where}: {' '.join(filter(None, (obj.get('kind'), name(obj))))} is valid")
    click.echo(f"{good} valid, {bad} invalid")
    if bad or not good:
        sys.exit(1)


def _sources(paths: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path == "-":
            yield "stdin", sys.stdin.read()
            continue
        place = Path(path)
        files = sorted(p for p in place.rglob("*") if p.suffix in _SUFFIXES) if place.is_dir() else [place]
        for file in files:
            try:
                yield str(file), file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise click.ClickException(f"{file}: {error}") from error


def _documents(text: str) -> Iterator[tuple[int, Obj, str]]:
    """(number, object, what is wrong with the document itself or "")."""
    number = 0
    try:
        for value in yaml.safe_load_all(text):
            if value is None:
                continue
            items = value.get("items") if isinstance(value, dict) and value.get("kind") == "List" else [value]
            for item in items or ():
                number += 1
                if isinstance(item, dict):
                    yield number, item, ""
                else:
                    yield number, {}, "not an object"
    except yaml.YAMLError as error:
        yield number + 1, {}, f"malformed YAML: {error}"


def check(obj: Obj) -> list[str]:
    """What is wrong with one object; empty when the server would take it."""
    api_version, kind = obj.get("apiVersion"), obj.get("kind")
    if not api_version or not kind:
        return ["apiVersion and kind must be set"]
    if (api_version, kind) in _FILES:
        return [str(problem) for problem in _FILES[api_version, kind](obj)]
    resource = BUILTIN.by_kind(str(api_version), str(kind))
    if resource is None:
        return [f"no matches for kind {kind!r} in version {api_version!r}"]
    try:
        decoded, _ = decode(resource, _as_json(obj), refuse_unknown=True)
    except ApiError as error:
        return [error.message]
    metadata = ensure_meta(decoded)
    if resource.namespaced:
        metadata.setdefault("namespace", "default")
    if metadata.get("generateName") and not metadata.get("name"):
        metadata["name"] = f"{metadata['generateName']}00000"
    strategy.apply_defaults(resource, decoded)
    strategy.prepare_create(resource, decoded)
    return [str(problem) for problem in strategy.validate_create(resource, decoded)]


def _encryption(obj: Obj) -> Iterable[FieldError]:
    from orca.store.encryption.config import check as problems_of

    return problems_of(obj)


def _audit(obj: Obj) -> Iterable[FieldError]:
    from orca.server.audit.policy import check as problems_of

    return problems_of(obj)


_FILES: dict[tuple[str, str], Callable[[Obj], Iterable[FieldError]]] = {
    ("apiserver.config.k8s.io/v1", "EncryptionConfiguration"): _encryption,
    ("audit.k8s.io/v1", "Policy"): _audit,
}
"""What is no object of the API but a file of the server."""


def _as_json(value: Any) -> Any:
    """YAML's further types (dates) as the strings JSON would carry."""
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
