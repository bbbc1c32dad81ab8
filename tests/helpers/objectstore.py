"""Run moto's S3 server in a process of its own, with faults on request.

`python -m tests.helpers.objectstore` prints its address and serves.

A fault is a rule: `{"method": "GET", "match": "part of the path", "status": 500, "times": 2}`, or
`"seconds": 3` for a slow answer. Without `times` a rule applies until the rules are changed. Rules
apply before moto sees the request.

PUT a list of rules as JSON to `/-/rules`. GET `/-/requests` returns the requests so far:
[method, path, seconds since the start, bytes].
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "SECRET-testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Faults:
    """A WSGI application in front of moto, which injects faults and records requests."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app, self.rules, self.requests, self.start = app, [], [], time.monotonic()

    def __call__(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path.startswith("/-/"):
            return self._control(method, path, environ, respond)
        respond = _name_as_aws(respond)
        self.requests.append(
            [method, path, time.monotonic() - self.start, int(environ.get("CONTENT_LENGTH") or 0)]
        )
        for rule in self.rules:
            is_match = (
                rule.get("method", method) == method
                and rule["match"] in f"{path}?{environ['QUERY_STRING']}"
            )
            if is_match and rule.get("times", 1) > 0:
                if "times" in rule:
                    rule["times"] -= 1
                time.sleep(rule.get("seconds", 0))
                if "status" in rule:
                    code = {503: "SlowDown", 403: "AccessDenied"}.get(
                        rule["status"], "InternalError"
                    )
                    respond(f"{rule['status']} {code}", [("Content-Type", "application/xml")])
                    return (
                        []
                        if method == "HEAD"
                        else [
                            f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
                        ]
                    )
        return self.app(environ, respond)

    def _control(
        self, method: str, path: str, environ: dict[str, Any], respond: Callable[..., Any]
    ) -> list[bytes]:
        if method == "PUT":
            self.rules = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            self.requests.clear()
        respond("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(self.requests).encode()]


def _name_as_aws(respond: Callable[..., Any]) -> Callable[..., Any]:
    """Add the header of AWS's store, by which a client knows that names are listed in order."""
    return lambda status, headers, *more: respond(status, [*headers, ("Server", "AmazonS3")], *more)


def serve() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


class Store:
    """A client of the server, for tests."""

    def __init__(self, url: str) -> None:
        import boto3

        self.url = url
        self.s3 = boto3.client("s3", endpoint_url=url)

    def bucket(self, name: str) -> str:
        """Create a bucket; return its name."""
        self.s3.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, name: str, data: bytes) -> None:
        self.s3.put_object(Bucket=bucket, Key=name, Body=data)

    def upload(self, bucket: str, prefix: str, folder: Path) -> None:
        """Upload all files of a folder below a prefix."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, f"{prefix}/{path.relative_to(folder)}", path.read_bytes())

    def contents(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Return name -> bytes of all objects below a prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {
            n.removeprefix(prefix): self.s3.get_object(Bucket=bucket, Key=n)["Body"].read()
            for n in names
        }

    def rules(self, *rules: dict[str, Any]) -> None:
        """Replace the rules of the server, and forget the requests so far."""
        urlopen(Request(f"{self.url}/-/rules", json.dumps(rules).encode(), method="PUT")).close()  # noqa: S310

    def requests(self, method: str, pattern: str) -> list[tuple[str, float]]:
        """Return path and time of the requests whose path matches a regular expression."""
        with urlopen(f"{self.url}/-/requests") as answer:  # noqa: S310
            every = json.loads(answer.read())
        return [
            (path, at) for verb, path, at, _ in every if verb == method and re.search(pattern, path)
        ]


@contextmanager
def running() -> Iterator[Store]:
    """Start a server, and set the environment so that every S3 client uses it."""
    before = dict(os.environ)
    command = [sys.executable, "-m", "tests.helpers.objectstore"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}"  # type: ignore[union-attr]
            os.environ |= KEYS | {
                "AWS_ENDPOINT_URL": url,
                "AWS_EC2_METADATA_DISABLED": "true",
                "no_proxy": "127.0.0.1",
            }
            yield Store(url)
        finally:
            process.kill()
            os.environ.clear()
            os.environ |= before


if __name__ == "__main__":
    serve()
