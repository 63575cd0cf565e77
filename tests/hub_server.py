"""A model hub on 127.0.0.1: the routes that huggingface_hub calls to read and write, and errors.

The answers follow what the real hub sends (status, ``X-Error-Code``, ``X-Repo-Commit``, ``ETag``,
ranges), so that the real client runs against it through ``HF_ENDPOINT``.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """A repository: its folder, the access it demands, and its faults.

    A data set's name is ``datasets/owner/name``.
    """

    folder: Path
    token: str | None = None
    """The token that may read it; without it the repository does not exist."""
    gated: bool = False
    hangs: bool = False
    """Accepts the connection and never answers."""
    breaks: str | None = None
    """A file that the hub lists but does not serve."""

    @property
    def commit(self) -> str:
        """The commit's hash, computed from the files."""
        content = [f"{path.name}{path.stat().st_size}" for path in self.files()]
        return hashlib.sha1("".join(content).encode()).hexdigest()

    def files(self) -> list[Path]:
        """All files, those in subfolders included."""
        return [path for path in sorted(self.folder.rglob("*")) if path.is_file()]

    def name_of(self, path: Path) -> str:
        """A file's name in the repository."""
        return path.relative_to(self.folder).as_posix()


@dataclass
class Hub:
    """A running server: its address, its repositories and its requests."""

    endpoint: str
    repositories: dict[str, Repository]
    requests: list[str] = field(default_factory=list)
    writer: str | None = None
    """The token that may create repositories and write; None: nobody may."""
    root: Path | None = None
    """Where created repositories lie."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files that were sent, by their SHA-256, until a commit names them."""
    private: set[str] = field(default_factory=set)
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def running_hub(
    repositories: dict[str, Repository], *, writer: str | None = None, root: Path | None = None
) -> Iterator[Hub]:
    """Serve the repositories until the block ends; with a writer's token, new ones under root."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_port}", repositories, writer=writer, root=root)
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

    def do_POST(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/validate-yaml":
            return self.validate(json.loads(body)["content"])
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        if token is None:
            return self.refuse(401, "", "Invalid username or password.")
        if token != hub.writer:
            return self.refuse(403, "", "You don't have the rights to create a model here")
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        kind = path.split("/")[5]
        name = "/".join(path.split("/")[3:5])
        if kind == "preupload":
            return self.preupload(json.loads(body))
        return self.commit(name, body)

    def do_PUT(self) -> None:
        hub = self.server.hub
        hub.requests.append(f"PUT {self.path}")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        if hashlib.sha256(data).hexdigest() != oid:
            return self.refuse(400, "", "the content is another")
        hub.objects[oid] = data
        return self.answer(b"{}")

    def validate(self, content: str) -> None:
        """Check the model card as the hub does: valid YAML, with a known licence."""
        import yaml

        found = re.match(r"---\n(.*?)\n---", content, re.DOTALL)
        errors = []
        if found is None:
            errors.append({"message": "no metadata block"})
        else:
            licence = yaml.safe_load(found[1]).get("license")
            if licence not in {"mit", "apache-2.0", "other"}:
                errors.append({"message": f'"license" must be one of [...], not {licence}'})
        answer = json.dumps({"errors": errors, "warnings": []}).encode()
        self.answer(answer, status=400 if errors else 200)

    def create(self, request: dict[str, object]) -> None:
        hub = self.server.hub
        owner = request.get("organization") or "shop"
        name = f"{owner}/{request['name']}"
        if request.get("private") or request.get("visibility") == "private":  # older, newer clients
            hub.private.add(name)
        address = json.dumps({"url": f"{hub.endpoint}/{name}"}).encode()
        if name in hub.repositories:
            return self.answer(address, status=409)
        folder = hub.root / name
        folder.mkdir(parents=True)
        hub.repositories[name] = Repository(folder)
        return self.answer(address)

    def preupload(self, request: dict[str, list[dict[str, object]]]) -> None:
        """Say which files are large: weights and graphs. The others are part of the commit."""
        large = (".safetensors", ".bin", ".onnx", ".jpg")
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(large) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in request["files"]
        ]
        self.answer(json.dumps({"files": files}).encode())

    def batch(self, request: dict[str, object]) -> None:
        hub = self.server.hub
        objects = [
            {
                "oid": one["oid"],
                "size": one["size"],
                "actions": {"upload": {"href": f"{hub.endpoint}/storage/{one['oid']}"}},
            }
            for one in request["objects"]
        ]
        answer = {"transfer": "basic", "objects": objects}
        self.answer(json.dumps(answer).encode(), kind="application/vnd.git-lfs+json")

    def commit(self, name: str, body: bytes) -> None:
        hub = self.server.hub
        repository = hub.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                data = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                data = hub.objects[value["oid"]]
            else:
                continue
            place = repository.folder / value["path"]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        oid = repository.commit
        address = f"{hub.endpoint}/{name}/commit/{oid}"
        answer = {"success": True, "commitOid": oid, "commitUrl": address}
        self.answer(json.dumps(answer).encode())

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
            # without access, a private repository looks like a missing one
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
        request = self.headers.get("Range")
        if request is None:
            return self.answer(data, headers=headers, kind="application/octet-stream")
        first, _, last = request.removeprefix("bytes=").partition("-")
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
        """Log nothing."""
