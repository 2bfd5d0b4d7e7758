"""A hub on this machine: the few routes that huggingface_hub uses, with repositories in memory."""

import base64
import hashlib
import http.server
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.local_server import LocalServer

TOKEN = "hf_swordfish"


@dataclass
class Repository:
    """The files of every commit, and the commit of every branch and tag.

    One that is `private` or `gated` is for those with the token.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add or replace files, and return the new commit."""
        before = self.commits.get(self.references.get(branch, ""), {})
        name = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[name] = {**before, **files}
        self.references[branch] = name
        return name


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does."""

    protocol_version = "HTTP/1.1"
    server: "FakeHub"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.requests.append(f"{self.command} {path}")
        if self.server.is_portal:
            return self.answer(200, b"<html>Log in</html>", {})
        if self.server.fails:
            return self.refuse(503, "")
        if path.startswith("/api/models/"):
            return self.describe(path.removeprefix("/api/models/"))
        if "/resolve/" not in path:
            return self.refuse(404, "RepoNotFound")
        name, _, rest = path.strip("/").partition("/resolve/")
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self.authorised):
            return self.refuse(401, "RepoNotFound")
        if repository.gated and not self.authorised:
            return self.refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
        revision, _, file = rest.partition("/")
        commit = repository.references.get(revision, revision)
        if commit not in repository.commits:
            return self.refuse(404, "RevisionNotFound")
        content = repository.commits[commit].get(file)
        if content is None:
            return self.refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        tag = hashlib.sha256(content).hexdigest()
        if self.command == "GET":
            content = self.server.sent(file, content)
        return self.answer(200, content, {"X-Repo-Commit": commit, "ETag": f'"{tag}"'})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"POST {unquote(self.path)}")
        if self.path == "/api/validate-yaml":
            refused = self.server.refused_card
            errors = [{"message": refused}] if refused else []
            return self.answer_json({"errors": errors, "warnings": []}, 400 if errors else 200)
        if not self.authorised:
            return self.refuse(401, "", {"X-Error-Message": "Invalid username or password."})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.server.repositories:
                return self.answer_json({"url": f"{self.server.url}/{name}"}, 409)
            private = asked.get("visibility") == "private"
            self.server.repositories[name] = Repository(private=private)
            return self.answer_json({"url": f"{self.server.url}/{name}"})
        user, model, action, revision = unquote(self.path).split("/", 6)[3:7]
        repository = self.server.repositories[f"{user}/{model}"]
        if action == "branch":
            repository.references[revision] = repository.references.get("main", "")
            return self.answer_json({})
        if action == "preupload":
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return self.answer_json({"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        self.server.messages += [
            each["value"]["summary"] for each in lines if each["key"] == "header"
        ]
        added = {
            each["value"]["path"]: base64.b64decode(each["value"]["content"])
            for each in lines
            if each["key"] == "file"
        }
        commit = repository.commit(added, revision)
        url = f"{self.server.url}/{user}/{model}/commit/{commit}"
        return self.answer_json({"success": True, "commitUrl": url, "commitOid": commit})

    def describe(self, name: str) -> None:
        """Answer with what a model is."""
        repository = self.server.repositories[name]
        self.answer_json({"id": name, "private": repository.private, "siblings": []})

    @property
    def authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def answer_json(self, document: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.answer(status, b"", {"X-Error-Code": code, **(headers or {})})

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


class FakeHub(LocalServer):
    """The hub; `requests` were made, `messages` came with commits.

    `damaged` says of a file how many more times it is sent with its last byte changed,
    `refused_card` why no card is taken, and `fails` that it is out of order; a portal of a network
    gives everybody its own page in place of the hub's answers.
    """

    # Those that answer end with their connections, and are waited for.
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.damaged: dict[str, int] = {}
        self.refused_card = ""
        self.fails = False
        self.is_portal = False

    def stop(self) -> None:
        """Answer no more; the client keeps connections, over which it would still be answered."""
        from huggingface_hub import close_session

        self.shutdown()
        close_session()
        self.server_close()

    def sent(self, file: str, content: bytes) -> bytes:
        """Return what is sent for a file."""
        if self.damaged.get(file, 0) == 0:
            return content
        self.damaged[file] -= 1
        return content[:-1] + bytes([content[-1] ^ 1])
