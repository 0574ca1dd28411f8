"""What of Python goes into an image is found by loading it."""

from __future__ import annotations

from pathlib import Path

from orca.lab import images

(INGRESS,) = [one for one in images.RECIPES if one.name == "ingress"]
HEAVY = {"grpcio", "aetcd", "numpy", "jsonschema-rs", "kubernetes-validate", "docker", "pyroute2", "rich", "uvloop"}


def test_the_ingress_controller_needs_little() -> None:
    """It runs on every host: what it loads is memory on each of them."""
    needs = INGRESS.needs
    assert needs is not None
    assert {"aiohttp", "orjson", "structlog", "cryptography"} <= set(needs.libraries)
    assert not HEAVY & set(needs.libraries)
    assert {"ingress/balancer.lua", "ingress/controller.py", "cli/__main__.py", "client/incluster.py"} <= set(
        needs.modules
    )
    assert not [one for one in needs.modules if one.startswith(("server/", "store/", "controllers/", "lab/"))]
    assert any(one.endswith("asyncio/base_events.py") for one in needs.loaded)


def test_the_manifest_names_the_image_that_is_built() -> None:
    text = (Path(__file__).parents[3] / "manifests/ingress/ingress.yaml").read_text()
    assert f"image: {INGRESS.tags[0]}\n" in text
