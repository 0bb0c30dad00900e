"""The open-loop load: every answer is counted, and one that is no 200 is not taken for one."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bench.contenders import KEYPAIR
from bench.corpus import write_corpus
from bench.steady import NotTakenError, steady_latencies_s


@contextmanager
def server(*, rejects_every: int) -> Iterator[str]:
    """A server that rejects every so manieth request; 0: none."""
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if rejects_every and len(taken) % rejects_every == 0 else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the standard library has it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/"
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "corpus.txt"
    write_corpus(file, 200, 5, KEYPAIR)
    return file


def test_every_webhook_has_its_latency(corpus: Path) -> None:
    with server(rejects_every=0) as url:
        latencies_s = steady_latencies_s(url, corpus, per_second=400, duration_s=0.25)
    assert len(latencies_s) == 100
    assert latencies_s == sorted(latencies_s)


def test_an_answer_that_is_no_200_fails_the_load(corpus: Path) -> None:
    with server(rejects_every=50) as url, pytest.raises(NotTakenError, match="503"):
        steady_latencies_s(url, corpus, per_second=400, duration_s=0.25)
