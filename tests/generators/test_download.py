"""Checkpoints from addresses: fetched once from real servers on loopback, and only what may be."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from web_files import send, sending, serving

from encoders import inspection, load_inverter, save_inverter
from generators import CheckpointError, conversion, load_generator, save_generator
from generators.files import addresses, download


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache for each test, and no pauses."""
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    monkeypatch.setattr(download, "TIMEOUT_S", 0.3)
    return tmp_path / "cache" / "restyle-batch" / "models"


@pytest.fixture
def serve():
    """Start servers that answer by a function; each has its address and what it was asked."""
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(serving(answer))


@pytest.fixture
def model(tiny_generator, tmp_path):
    """Bytes of a generator of ours."""
    save_generator(tmp_path / "g.safetensors", tiny_generator)
    return (tmp_path / "g.safetensors").read_bytes()


def leading_to(url):
    return lambda handler: send(handler, status=302, Location=url)


def test_an_address_is_fetched_once(serve, model, own_cache, capfd):
    server = serve(sending(model))
    address = f"{server.url}/g.safetensors"
    first, again = load_generator(address), load_generator(address)
    assert first.config == again.config
    assert [one.headers["If-None-Match"] for one in server.asked] == [None, '"one"']
    assert capfd.readouterr().err.count("downloading") == 1
    kept = sorted(path.suffix for path in own_cache.iterdir())
    assert kept == [".json", ".lock", ".safetensors"]


def test_a_date_tells_too_whether_a_file_has_changed(serve, model):
    bodies = []

    def answer(handler):
        bodies.append(model)
        send(handler, model, Last_Modified="Tue, 01 Dec 2026 00:00:00 GMT")

    address = serve(answer).url + "/g.safetensors"
    found = download.local(address)
    before = found.stat().st_mtime_ns
    assert download.local(address).stat().st_mtime_ns == before


def test_what_has_changed_is_fetched_anew_unless_it_is_pinned(
    serve, model, tiny_generator, tmp_path
):
    content = [model, '"one"']
    server = serve(lambda handler: sending(*content)(handler))
    address = f"{server.url}/g.safetensors"
    pinned = download.pinned(address)
    first = download.local(address)
    assert pinned == f"{address}#sha256={first.stem}"
    save_generator(tmp_path / "other.safetensors", tiny_generator, notes="another")
    content[:] = [(tmp_path / "other.safetensors").read_bytes(), '"two"']
    assert download.local(address) != first
    n_asked = len(server.asked)
    assert download.local(pinned) == first
    assert len(server.asked) == n_asked, "what is pinned and here needs no server"
    first.unlink()
    with pytest.raises(CheckpointError, match="holds another file than is meant"):
        download.local(pinned)


@pytest.mark.parametrize("at_end", [True, False])
def test_a_repository_and_its_token(serve, model, monkeypatch, at_end):
    elsewhere = serve(sending(model))
    hub = serve(leading_to(f"{elsewhere.url}/blob"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    name, file = ("anna/faces", "a/g.safetensors@v 1/x") if at_end else ("anna/faces@v 1/x", "")
    address = f"hf://{name}/{file}" if at_end else "hf://anna/faces@v1/a/g.safetensors"
    assert load_generator(address).resolution == 32
    revision = "v%201%2Fx" if at_end else "v1"
    assert hub.asked[0].path == f"/anna/faces/resolve/{revision}/a/g.safetensors"
    assert hub.asked[0].headers["Authorization"] == "Bearer hf_secret"
    assert elsewhere.asked[0].headers["Authorization"] is None, "a token is for its own server"


def test_a_renamed_repository_is_asked_with_the_token(serve, model, monkeypatch):
    def answer(handler):
        if handler.path.startswith("/new"):
            send(handler, model)
        else:
            send(handler, status=307, Location="/new/faces/resolve/main/g.safetensors")

    hub = serve(answer)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert load_generator("hf://old/faces/g.safetensors").resolution == 32
    assert [one.headers["Authorization"] for one in hub.asked] == ["Bearer hf_secret"] * 2


def test_a_web_address_gets_no_token(serve, model, monkeypatch):
    server = serve(sending(model))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    load_generator(f"{server.url}/g.safetensors")
    assert server.asked[0].headers["Authorization"] is None


def test_a_commit_is_not_asked_for_twice(serve, model, monkeypatch):
    hub = serve(sending(model))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    for _ in range(2):
        download.local(f"hf://anna/faces/g.safetensors@{'a' * 40}")
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "no file at hf://"), (418, "418"), (503, "503")],
)
def test_refusals_are_sentences(serve, monkeypatch, status, says, own_cache):
    hub = serve(lambda handler: send(handler, b"<html>", status))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(CheckpointError, match=says):
        load_generator("hf://anna/faces/g.safetensors")
    assert len(hub.asked) == (download.N_ATTEMPTS if status == 503 else 1)
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]


def test_a_server_that_is_gone_or_silent(serve, model, own_cache):
    hang = threading.Event()
    silent = serve(lambda handler: hang.wait(5))
    with pytest.raises(CheckpointError, match="nothing came for"):
        load_generator(f"{silent.url}/g.safetensors")
    hang.set()
    gone = [model]

    def answer(handler):
        sending(gone[0])(handler) if gone else send(handler, status=503)

    server = serve(answer)
    found = download.local(f"{server.url}/g.safetensors")
    gone.clear()
    with pytest.warns(UserWarning, match="the copy fetched before is used"):
        assert download.local(f"{server.url}/g.safetensors") == found
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        load_generator(f"{server.url}/other.safetensors")


def test_offline_uses_what_is_there(serve, model, monkeypatch):
    server = serve(sending(model))
    found = download.local(f"{server.url}/g.safetensors")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download.local(f"{server.url}/g.safetensors") == found
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        download.local(f"{server.url}/other.safetensors")
    assert len(server.asked) == 1


def test_a_connection_that_breaks_is_tried_again(serve, model, own_cache):
    n_cut = [1]

    def answer(handler):
        if n_cut[0]:
            n_cut[0] -= 1
            send(handler, model[: len(model) // 2], Content_Length=len(model))
        else:
            send(handler, model)

    server = serve(answer)
    path = download.local(f"{server.url}/g.safetensors")
    assert path.read_bytes() == model
    n_cut[0] = download.N_ATTEMPTS
    with pytest.raises(CheckpointError, match="the connection ended after"):
        download.local(f"{server.url}/other.safetensors")
    assert not list(own_cache.glob("*.part"))


@pytest.mark.parametrize("kind", ["page", "foreign", "huge", "endless"])
def test_what_is_no_checkpoint_is_not_kept(serve, own_cache, monkeypatch, kind):
    import torch
    from safetensors.torch import save

    def answer(handler):
        if kind == "page":
            send(handler, b"<!DOCTYPE html><html>log in</html>" * 10)
        elif kind == "foreign":
            send(handler, save({"x": torch.zeros(3)}))
        elif kind == "huge":
            send(handler, Content_Length=10**15)
        else:  # no length, and no end: as long as anybody listens
            handler.send_response(200)
            handler.end_headers()
            try:
                while True:
                    handler.wfile.write(bytes(1 << 16))
            except OSError:
                pass

    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    says = {"page": "not a readable", "foreign": "not from this project"}.get(kind, "more than")
    with pytest.raises(CheckpointError, match=says):
        load_generator(f"{serve(answer).url}/g.safetensors")
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]


def test_a_trickle_is_given_up(serve, own_cache, monkeypatch):
    def answer(handler):
        send(handler, Content_Length=10**6)
        with suppress(OSError):
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.01)

    monkeypatch.setattr(download, "PERIOD_S", 0.05)
    with pytest.raises(CheckpointError, match="less than 1000 bytes a second"):
        load_generator(f"{serve(answer).url}/g.safetensors")
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://127.0.0.1/g.safetensors", "http://[::1"]
)
def test_redirects_lead_to_the_web_only(serve, to):
    with pytest.raises(CheckpointError, match="not followed|status 302|no address"):
        load_generator(f"{serve(leading_to(to)).url}/g.safetensors")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("https://host/model.pt", "download it yourself"),
        ("https://host/model.pkl?x=.safetensors", "download it yourself"),
        ("hf://anna/faces/model.pt", "download it yourself"),
        ("hf://anna/g.safetensors", "names no file|names no repository"),
        ("hf://anna/faces/../x/g.safetensors", "names no file"),
        ("hf://anna/faces@a/g.safetensors@b", "names no file"),
        ("https://user:secret@host/g.safetensors", "user name"),
        ("https:///g.safetensors", "no host"),
        ("https://host:99999/g.safetensors", "no host"),
        ("s3://bucket/g.safetensors", "s3:// address"),
        ("file:///tmp/g.safetensors", "file:// address"),
        ("https://host/g.safetensors#sha256=12", "64 hexadecimal"),
    ],
)
def test_addresses_that_are_refused_ask_nobody(address, says, own_cache):
    for use in (load_generator, load_inverter, inspection.describe, conversion.kind_of):
        with pytest.raises(CheckpointError, match=says) as error:
            use(address)
        assert "secret" not in str(error.value)
    assert not own_cache.exists()


def test_an_endpoint_or_token_that_cannot_be_is_said(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "file:///tmp")
    with pytest.raises(CheckpointError, match="HF_ENDPOINT must begin"):
        addresses.parse("hf://anna/faces/g.safetensors")
    monkeypatch.setenv("HF_ENDPOINT", "https://host")
    monkeypatch.setenv("HF_TOKEN", "a\r\nX-Evil: 1")
    with pytest.raises(CheckpointError, match="HF_TOKEN holds"):
        addresses.parse("hf://anna/faces/g.safetensors")


def test_those_who_want_the_same_at_once_fetch_it_once(serve, model):
    server = serve(sending(model))
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(download.local, [f"{server.url}/g.safetensors"] * 4))
    assert len(paths) == 1
    assert [one.headers["If-None-Match"] for one in server.asked] == [None, *['"one"'] * 3]


def test_an_address_in_a_checkpoint_is_not_followed(serve, model, tiny_inverter, tmp_path):
    server = serve(sending(model))
    save_inverter(
        tmp_path / "i.safetensors",
        load_inverter(tiny_inverter),
        generator_name=f"{server.url}/g.safetensors",
    )
    with pytest.raises(CheckpointError, match="names the address of its generator"):
        load_inverter(tmp_path / "i.safetensors")
    assert server.asked == []
