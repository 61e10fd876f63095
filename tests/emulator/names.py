"""The API's own name of a call that came over HTTP: `RunInstances`, `PutBucketVersioning`."""

from __future__ import annotations

import urllib.parse
from functools import cache
from typing import Any


def service_of(environ: dict[str, Any]) -> str:
    """From the scope of the signature; "" of an unsigned call."""
    scope = str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2].split(",")[0].split("/")
    return scope[3] if len(scope) > 3 else ""


def action_of(environ: dict[str, Any], body: bytes) -> str:
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return str(target).rsplit(".", 1)[-1]
    if "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", ""):
        return urllib.parse.parse_qs(body.decode("utf-8", "replace")).get("Action", ["?"])[0]
    return _s3(environ)


def _s3(environ: dict[str, Any]) -> str:
    parts = [part for part in environ.get("PATH_INFO", "/").split("/", 2) if part]
    asked = {name for name, _ in urllib.parse.parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)}
    method = environ["REQUEST_METHOD"]
    fitting = [
        (len(keys), name)
        for name, (verb, level, keys) in _operations().items()
        if verb == method and level == len(parts) and keys <= asked
    ]
    if not fitting:
        return f"S3:{method}"
    most = max(count for count, _ in fitting)
    names = sorted(name for count, name in fitting if count == most)
    return "PutObject" if "PutObject" in names else names[0]


@cache
def _operations() -> dict[str, tuple[str, int, frozenset[str]]]:
    """Name → method, parts of the path (0 service, 1 bucket, 2 object), keys of the query that tell it apart."""
    from botocore.loaders import Loader

    found = {}
    for name, operation in Loader().load_service_model("s3", "service-2")["operations"].items():
        path, _, query = operation["http"]["requestUri"].partition("?")
        keys = frozenset(pair.split("=")[0] for pair in query.split("&") if pair) - {"x-id"}
        level = 2 if "{Key" in path else 1 if "{Bucket" in path else 0
        found[name] = (operation["http"]["method"], level, keys)
    return found
