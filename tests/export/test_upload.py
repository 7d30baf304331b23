"""--push, to a server on this machine that answers as the hub does."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import ModelCard

from maskcon import Encoder, commands
from maskcon.errors import InputError
from tests.conftest import FAST, as_found, write_tree


class Hub(ThreadingHTTPServer):
    """One repository: its commits, and what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.made: list[dict] = []
        self.commits: dict[str, dict[str, bytes]] = {}
        self.refuses = False


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *words) -> None: ...

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        place = self.note()
        if place == "/api/validate-yaml":
            assert ModelCard(json.loads(content)["content"]).data.license
            self.tell({"errors": [], "warnings": []})
        elif self.server.refuses:
            self.tell({"error": "Forbidden: you may not write here"}, 403)
        elif place == "/api/repos/create":
            self.server.made.append(json.loads(content))
            self.tell({"url": f"{self.server.address}/me/fruit"})
        elif place == "/api/models/me/fruit/preupload/main":
            files = json.loads(content)["files"]
            said = {"uploadMode": "regular", "shouldIgnore": False}
            self.tell({"files": [{"path": file["path"], **said} for file in files]})
        else:
            assert place == "/api/models/me/fruit/commit/main", place
            lines = [json.loads(line) for line in content.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            oid = hashlib.sha1(content).hexdigest()
            self.server.commits[oid] = files
            self.tell(
                {"commitUrl": f"{self.server.address}/me/fruit/commit/{oid}", "commitOid": oid}
            )

    def do_GET(self) -> None:
        place = self.note()
        oid, files = next(reversed(self.server.commits.items()), ("", {}))
        api, name = "/api/models/me/fruit", place.removeprefix(f"/me/fruit/resolve/{oid}/")
        if place.startswith(f"{api}/revision/"):
            siblings = [{"rfilename": name} for name in files]
            self.tell({"id": "me/fruit", "sha": oid, "siblings": siblings})
            return
        if place == f"{api}/tree/{oid}":
            digest = {n: hashlib.sha1(content).hexdigest() for n, content in files.items()}
            facts = [{"type": "file", "path": n, "size": len(files[n])} for n in files]
            self.tell([fact | {"oid": digest[fact["path"]]} for fact in facts])
            return
        if name not in files:
            self.tell({}, 404)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", oid)
        self.send_header("ETag", f'"{hashlib.sha1(files[name]).hexdigest()}"')
        self.send_header("Content-Length", str(len(files[name])))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(files[name])

    do_HEAD = do_GET  # noqa: N815

    def note(self) -> str:
        place = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, place))
        if "/fruit" in place:
            self.server.tokens.add(self.headers.get("Authorization"))
        return place

    def tell(self, what: dict | list, code: int = 200) -> None:
        content = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny) -> Path:
    out = tmp_path_factory.mktemp("runs") / "x"
    commands.train(data=as_found(tiny), out=out, method="maskcon", **FAST)
    return out


def asking(hub: Hub, home: Path, code: str, *words: str | Path) -> subprocess.CompletedProcess:
    """A program of its own, as huggingface_hub reads its variables once."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home / "hub"),
        "HF_TOKEN": "hf_secret",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "no_proxy": "127.0.0.1",
    }
    program = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(program, env=environment, capture_output=True, text=True)


TYPED = "from maskcon.cli import main; main()"
LOADED = (
    "import sys, maskcon\n"
    "for download in (True, False):\n"
    "    encoder = maskcon.Encoder.load(sys.argv[1], download=download)\n"
    "    print(encoder.source, encoder.identity)"
)


def test_pushed_and_loaded_again(hub, run, tmp_path):
    out = tmp_path / "published"
    words = ["export", run, "--to", "hf", "-o", out, "--license", "mit"]
    done = asking(hub, tmp_path, TYPED, *words)
    assert done.returncode == 0, done.stderr
    assert not hub.asked  # nobody said that anything is sent
    done = asking(hub, tmp_path, TYPED, *words, "--overwrite", "--push", "me/fruit", "--json", "-")
    assert done.returncode == 0, done.stderr
    ((oid, files),) = hub.commits.items()
    assert json.loads(done.stdout)["pushed"] == f"hf:me/fruit@{oid}"
    (made,) = hub.made
    assert (made["organization"], made["name"]) == ("me", "fruit")
    assert made.get("private") or made["visibility"] == "private"
    assert hub.tokens == {"Bearer hf_secret"}
    assert files == {
        path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")
    }
    card = ModelCard(files["README.md"].decode()).data
    assert (card.license, card.library_name) == ("mit", "maskcon")
    assert card.pipeline_tag == "image-feature-extraction"
    assert card.metrics == ["recall"]
    shares = {result.metric_name: result.metric_value for result in card.eval_results}
    results = json.loads((run / "run.json").read_text())["results"]
    assert shares["recall@1"] == pytest.approx(results["recall@1"], abs=1e-6)

    hub.asked.clear()
    done = asking(hub, tmp_path, LOADED, "hf:me/fruit")
    identity = Encoder.load(run).identity
    assert done.stdout.split() == [f"hf:me/fruit@{oid}", identity] * 2, done.stderr
    fetched = {place.rpartition("/")[2] for _, place in hub.asked if "/resolve/" in place}
    assert fetched == {"encoder.json", "encoder.safetensors", "run.json"}


def test_what_cannot_be_pushed(hub, run, tmp_path):
    with pytest.raises(InputError, match=r"--push is 'fruit': expected OWNER/NAME"):
        commands.export(run, to="hf", out=tmp_path / "hf", push="fruit")
    with pytest.raises(InputError, match="--to timm does not take push"):
        commands.export(run, to="timm", out=tmp_path / "x.safetensors", push="me/fruit")
    assert not [*tmp_path.iterdir()]
    hub.refuses = True
    words = ["export", run, "--to", "hf", "-o", tmp_path / "hf", "--push", "me/fruit"]
    done = asking(hub, tmp_path, TYPED, *words)
    assert done.returncode == 1
    assert "hf is written, and could not be pushed to me/fruit: " in done.stderr
    assert "Traceback" not in done.stderr
    assert Encoder.load(tmp_path / "hf").identity == Encoder.load(run).identity


def test_judged_by_name(hub, run, tmp_path, tiny):
    """As the run's own folder is."""
    write_tree(tmp_path / "glyphs", tiny)
    hub.commits["0" * 40] = {
        name: (run / name).read_bytes()
        for name in ("encoder.safetensors", "encoder.json", "run.json")
    }
    data = ["--data", tmp_path / "glyphs"]
    results = []
    for name, more in ((run, []), ("hf:me/fruit", ["--download"])):
        out = tmp_path / f"{len(results)}.json"
        done = asking(hub, tmp_path, TYPED, "eval", name, *data, "--json", out, *more)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(out.read_text()))
    recalls = [[v for k, v in sorted(_flat(one).items()) if "recall" in k] for one in results]
    assert recalls[0]
    assert recalls[0] == recalls[1]


def _flat(value: object, name: str = "") -> dict[str, object]:
    """The numbers of nested records by their names."""
    if isinstance(value, dict):
        return {k: v for n, one in value.items() for k, v in _flat(one, f"{name}.{n}").items()}
    return {name: value}
