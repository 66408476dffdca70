"""What clients say in HTTP that a prediction must not hang on, and what nobody should say."""

import gzip
import json
from collections.abc import Iterator

import pytest
from running_server import Running, is_closed, read_answer, request, running_server

PREDICT = "/v1/models/ag_news:predict"
BODY = json.dumps({"instances": ["the upgrade: pgrade"]}).encode()
OFFER = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAEAAEAAAAIAAAAA"}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server() as running:
        yield running


@pytest.mark.parametrize("spelling", ["upgrade", "Upgrade", "UPGRADE"])
def test_who_offers_http2_is_answered_in_http1(server: Running, spelling: str) -> None:
    """As Java's client does with its first request."""
    asked = request("POST", PREDICT, BODY, **OFFER).replace(b"\r\nupgrade:", f"\r\n{spelling}:".encode())
    looked = request("GET", "/healthz", None, **OFFER)
    plain = server.predict("the upgrade: pgrade").body
    with server.connect() as client:
        buffer = bytearray()
        for sent in (asked, looked, asked, request("POST", PREDICT, BODY)):
            client.sendall(sent)
            answer = read_answer(client, buffer)
            assert (answer.status, answer.body) == (200, b"ok\n" if sent is looked else plain)


def test_a_body_behind_the_offer_may_come_later(server: Running) -> None:
    head, _, body = request("POST", PREDICT, BODY, **OFFER).partition(b"\r\n\r\n")
    with server.connect() as client:
        for part in (head + b"\r\n\r\n", body[:9], body[9:]):
            client.sendall(part)
        assert read_answer(client).status == 200


def test_an_offer_across_two_packets_is_refused_and_no_body_is_taken_for_a_request(server: Running) -> None:
    smuggled = request("GET", "/healthz")
    sent = request("POST", PREDICT, smuggled, **OFFER)
    cut = sent.index(b"upgrade: h2c") + 3
    with server.connect() as client:
        client.sendall(sent[:cut])
        # So that the two do not arrive as one.
        assert server.predict("meanwhile").status == 200
        client.sendall(sent[cut:])
        answer = read_answer(client)
        assert (answer.status, answer.json) == (400, {"error": "this connection stays HTTP/1.1: ask so"})
        assert answer.headers["connection"] == "close"
        assert is_closed(client)


@pytest.mark.parametrize("hosts", [("127.0.0.1", "evil.example"), ("evil.example", "127.0.0.1"), ("127.0.0.1",) * 2])
def test_two_hosts_are_none(server: Running, hosts: tuple[str, str]) -> None:
    asked = request("POST", PREDICT, BODY, host=hosts[0])
    asked = asked.replace(b"\r\ncontent-length", f"\r\nhost: {hosts[1]}\r\ncontent-length".encode())
    with server.connect() as client:
        client.sendall(asked)
        assert read_answer(client).status == 403


def test_a_packed_body_is_called_that(server: Running) -> None:
    answer = server.ask("POST", PREDICT, gzip.compress(BODY), content_encoding="gzip")
    assert (answer.status, "packed with gzip" in answer.json["error"]) == (400, True)


@pytest.mark.parametrize(
    "headers",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"content-length: -1\r\n",
        b"content-length: 99999999999999999999999\r\n",
        b"x-odd: a\r\n b\r\n",
        b"x-odd: a\0b\r\n",
    ],
)
def test_a_length_or_a_line_that_may_be_read_in_two_ways_ends_the_connection(server: Running, headers: bytes) -> None:
    with server.connect() as client:
        client.sendall(b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n" + headers + b"\r\nhello")
        answer = read_answer(client)
        assert (answer.status, list(answer.json)) == (400, ["error"])
        assert is_closed(client)
