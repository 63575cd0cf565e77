"""A hub on 127.0.0.1: the calls that huggingface_hub makes to fetch a repository, and its refusals.

The answers follow what the real hub sends (status, ``X-Error-Code``, ``X-Repo-Commit``, ``ETag``,
ranges), so that the real client runs against it through ``HF_ENDPOINT``.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """A folder behind a name, with what the hub demands and how it behaves.

    A data set's name is ``datasets/owner/name``.
    """

    folder: Path
    token: str | None = None
    """Without it the repository is as good as not there."""
    gated: bool = False
    hangs: bool = False
    """Accepts the connection and never answers."""
    breaks: str | None = None
    """A file that the hub lists and then does not hand out."""

    @property
    def commit(self) -> str:
        """What a commit's hash is on the hub: another one when the files are others."""
        content = [f"{path.name}{path.stat().st_size}" for path in self.files()]
        return hashlib.sha1("".join(content).encode()).hexdigest()

    def files(self) -> list[Path]:
        """Every file, in folders too."""
        return [path for path in sorted(self.folder.rglob("*")) if path.is_file()]

    def name_of(self, path: Path) -> str:
        """A file's name in the repository."""
        return path.relative_to(self.folder).as_posix()


@dataclass
class Hub:
    """A running server: its address, its repositories, and every request it saw."""

    endpoint: str
    repositories: dict[str, Repository]
    requests: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def running_hub(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """Serve the repositories until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_port}", repositories)
    server.hub = hub
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        is_api = path.startswith("/api/")
        parts = path.removeprefix("/api").removeprefix("/models").strip("/").split("/")
        kind_of = f"{parts.pop(0)}/" if parts[0] == "datasets" else ""
        name = kind_of + "/".join(parts[:2])
        repository = hub.repositories.get(name)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        if repository is None or (repository.token and token != repository.token):
            # the hub does not tell strangers whether a private repository exists
            return self.refuse(401 if token is None else 404, "RepoNotFound", "Not found")
        if repository.hangs:
            hub.closing.wait(60)
            return self.refuse(503, "", "closing")
        if repository.gated:
            return self.refuse(403, "GatedRepo", f"Access to {name} is restricted")
        kind = parts[2] if len(parts) > 2 else "revision"
        revision = parts[3] if len(parts) > 3 else "main"
        if revision not in {"main", repository.commit}:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if is_api and kind == "tree":
            return self.answer(json.dumps(self.tree(repository)).encode())
        if is_api:
            return self.answer(json.dumps(self.info(name, repository)).encode())
        file = repository.folder / "/".join(parts[4:])
        if file.name == repository.breaks:
            return self.refuse(403, "", "storage is closed")
        if not file.is_file():
            return self.refuse(404, "EntryNotFound", "Entry not found", repository.commit)
        return self.send(file, repository.commit)

    def info(self, name: str, repository: Repository) -> dict[str, object]:
        files = [{"rfilename": repository.name_of(path)} for path in repository.files()]
        return {"id": name, "modelId": name, "sha": repository.commit, "siblings": files}

    def tree(self, repository: Repository) -> list[dict[str, object]]:
        return [
            {
                "type": "file",
                "path": repository.name_of(path),
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for path in repository.files()
        ]

    def send(self, file: Path, commit: str) -> None:
        data = file.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        asked = self.headers.get("Range")
        if asked is None:
            return self.answer(data, headers=headers, kind="application/octet-stream")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), int(last) if last else len(data) - 1
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        part = data[start : end + 1]
        return self.answer(part, status=206, headers=headers, kind="application/octet-stream")

    def refuse(self, status: int, code: str, words: str, commit: str | None = None) -> None:
        headers = {"X-Error-Message": words} | ({"X-Error-Code": code} if code else {})
        headers |= {"X-Repo-Commit": commit} if commit else {}
        self.answer(json.dumps({"error": words}).encode(), status=status, headers=headers)

    def answer(
        self,
        body: bytes,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""
