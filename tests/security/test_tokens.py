# SPDX-License-Identifier: Apache-2.0
"""Signed tokens: who the identity provider says, and nobody else."""

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from server.api import ADMIN, DENIED, METER, Api, connect, record_request
from server.waiting import eventually

from harness.server_process import ServerProcess
from taximeter.v1 import access_service_pb2

FreshServer = Callable[..., ServerProcess]
ISSUER, AUDIENCE = "https://login.taximeter.test", "taximeter"
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_REQUIRED")
RECORD_ID = "tokens-0000000001"
WAIT_SECONDS = 60
WHO_AM_I = access_service_pb2.WhoAmIRequest()
OCT_SECRET = b"known to everybody who asks for the keys"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
MAKERS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65_537, 2_048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


class Provider:
    """An identity provider with a key of each algorithm."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {algorithm: MAKERS[algorithm]() for algorithm in ALGORITHMS}
        self.ids = {algorithm: f"{algorithm}-1" for algorithm in ALGORITHMS}

    def rotate(self, algorithm: str) -> None:
        """Replace a key."""
        self.keys[algorithm] = MAKERS[algorithm]()
        self.ids[algorithm] += "+"

    @property
    def jwks(self) -> bytes:
        """The public keys, with one of a kind that must never verify anything."""
        keys = []
        for algorithm, key in self.keys.items():
            maker: Any = jwt.get_algorithm_by_name(algorithm)
            keys.append(
                maker.to_jwk(key.public_key(), as_dict=True) | {"kid": self.ids[algorithm], "use": "sig"}
            )
        secret = base64.urlsafe_b64encode(OCT_SECRET).rstrip(b"=").decode()
        keys.append({"kty": "oct", "k": secret, "kid": "oct", "alg": "HS256"})
        return json.dumps({"keys": keys}).encode()

    def token(self, algorithm: str = "ES256", key: Any = None, kid: str = "", **claims: Any) -> str:
        """Issue a token; claims replace those of a good one, and None leaves one out."""
        now = int(time.time())  # noqa: TID251 (the server's clock is the machine's)
        good = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "gateway-7",
            "iat": now,
            "exp": now + 300,
            "access": {"roles": ["irrelevant", "metering"]},
            "tenants": ["acme"],
        }
        payload = {name: value for name, value in (good | claims).items() if value is not None}
        headers = {"kid": kid or self.ids[algorithm]}
        return jwt.encode(payload, key or self.keys[algorithm], algorithm, headers=headers)

    def public_pem(self, algorithm: str) -> bytes:
        """A public key in PEM form, which anybody may know."""
        pem: bytes = (
            self.keys[algorithm].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        return pem


def identities(keys: str, *more: str) -> str:
    """Return an identities file."""
    lines = [
        "[token]",
        f'issuer = "{ISSUER}"',
        f'audience = "{AUDIENCE}"',
        f'keys = "{keys}"',
        'role_claim = "access.roles"',
        'tenants_claim = "tenants"',
        *more,
        "[token.roles]",
        '"operators" = "admin"',
        '"metering" = "meter"',
    ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def provider() -> Provider:
    """A provider whose keys stay."""
    return Provider()


@pytest.fixture(scope="module")
def token_server(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that accepts the provider's tokens."""
    directory = tmp_path_factory.mktemp("tokens")
    (directory / "keys.json").write_bytes(provider.jwks)
    (directory / "identities.toml").write_text(identities(str(directory / "keys.json")))
    arguments = ["--identities", str(directory / "identities.toml")]
    with ServerProcess(directory / "data", arguments=arguments) as running:
        yield running


@pytest.fixture
def anyone(token_server: ServerProcess) -> Iterator[Api]:
    """The API, called without credentials."""
    with connect(token_server.address, "") as api:
        yield api


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_gives_role_and_tenants(algorithm: str, anyone: Api, provider: Provider) -> None:
    """The claims say who calls, on every call with the token, here and behind the forwarder."""
    api = anyone.with_key(provider.token(algorithm))
    for _ in range(3):
        found = api.call(api.access.WhoAmI, WHO_AM_I)
        assert (found.key_id, found.role, list(found.tenants)) == ("jwt:gateway-7", METER, ["acme"])
    api.call(api.metering.Record, record_request("acme", RECORD_ID, tokens=1))
    assert api.fail(api.metering.Record, record_request("globex", RECORD_ID, tokens=1)) == DENIED


def test_the_first_role_of_the_file_decides(anyone: Api, provider: Provider) -> None:
    """A caller with several roles has the one that the operator named first; a text is a list of one."""
    both = anyone.with_key(provider.token(access={"roles": ["metering", "operators"]}))
    one = anyone.with_key(provider.token(access={"roles": "operators"}, tenants="acme/research"))

    assert both.call(both.access.WhoAmI, WHO_AM_I).role == ADMIN
    assert list(one.call(one.access.WhoAmI, WHO_AM_I).tenants) == ["acme/research"]


def test_keys_still_work(token_server: ServerProcess, anyone: Api) -> None:
    """Tokens are accepted beside keys, not instead."""
    api = anyone.with_key(token_server.admin_key)

    assert api.call(api.access.WhoAmI, WHO_AM_I).role == ADMIN


def unsigned(provider: Provider) -> str:
    """Return a good token whose signature was taken away, and that says so."""
    _, payload, _ = provider.token().split(".")
    return f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{payload}."


def signed_with_the_public_key(provider: Provider) -> str:
    """Return a token signed by HMAC with what everybody knows: the text of the public key."""
    _, payload, _ = provider.token("RS256").split(".")
    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': provider.ids['RS256']})}.{payload}"
    digest = hmac.new(provider.public_pem("RS256"), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def encoded(document: object) -> str:
    """Return a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def now_s() -> int:
    """Return the time as the server reads it."""
    return int(time.time())  # noqa: TID251 (the server's clock is the machine's)


BAD: dict[str, Callable[[Provider], str]] = {
    "algorithm none": unsigned,
    "HS256 with the public key": signed_with_the_public_key,
    "HS256 with a key of the set": lambda p: jwt.encode(
        jwt.decode(p.token(), options={"verify_signature": False}),
        OCT_SECRET,
        "HS256",
        headers={"kid": "oct"},
    ),
    "key of somebody else": lambda p: p.token(key=MAKERS["ES256"]()),
    "key of another algorithm": lambda p: p.token("ES256", kid=p.ids["RS256"]),
    "unknown key": lambda p: p.token(kid="nobody"),
    "other audience": lambda p: p.token(aud="others"),
    "no audience": lambda p: p.token(aud=None),
    "other issuer": lambda p: p.token(iss="https://elsewhere.test"),
    "no issuer": lambda p: p.token(iss=None),
    "expired": lambda p: p.token(exp=now_s() - 60),
    "without end": lambda p: p.token(exp=None),
    "not yet valid": lambda p: p.token(nbf=now_s() + 60),
    "issued in the future": lambda p: p.token(iat=now_s() + 60),
    "no subject": lambda p: p.token(sub=None),
    "subject with a space": lambda p: p.token(sub="a b"),
    "no role": lambda p: p.token(access={"roles": ["irrelevant"]}),
    "role of another shape": lambda p: p.token(access=["metering"]),
    "no tenants": lambda p: p.token(tenants=None),
    "empty tenants": lambda p: p.token(tenants=[]),
    "two tenants in one": lambda p: p.token(tenants=["acme,globex"]),
    "a megabyte": lambda p: p.token(filler="f" * 5_000),
    "changed payload": lambda p: changed(p.token()),
    "text": lambda _: "a.b.c",
    "empty": lambda _: "..",
}


def changed(token: str) -> str:
    """Return the token for an operator, with the signature of a gateway."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"{header}.{encoded(claims | {'access': {'roles': ['operators']}})}.{signature}"


@pytest.mark.parametrize("kind", BAD)
def test_bad_tokens_are_refused_with_one_text(kind: str, anyone: Api, provider: Provider) -> None:
    """Whatever is wrong with a token, its caller learns nothing but that it is not let in."""
    api = anyone.with_key(BAD[kind](provider))
    with pytest.raises(grpc.RpcError) as caught:
        api.call(api.access.WhoAmI, WHO_AM_I)

    assert api.fail(api.access.WhoAmI, WHO_AM_I) == REFUSED
    assert caught.value.details() == "credentials required"


def test_a_token_ends_with_its_time(anyone: Api, provider: Provider) -> None:
    """A token that was good is refused once it has expired, remembered or not."""
    # 30 s are allowed for clocks that differ.
    api = anyone.with_key(provider.token(exp=now_s() - 27))
    api.call(api.access.WhoAmI, WHO_AM_I)

    assert eventually(lambda: is_refused(api), WAIT_SECONDS)


def is_refused(api: Api) -> bool:
    """Say whether the caller is not let in."""
    try:
        api.call(api.access.WhoAmI, WHO_AM_I)
    except grpc.RpcError as error:
        return bool(error.code() is grpc.StatusCode.UNAUTHENTICATED)
    return False


@pytest.fixture
def key_url(tmp_path: Path) -> Iterator[str]:
    """The URL of what stands in keys.json."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (tmp_path / "keys.json").read_bytes()
            self.send_response(http.HTTPStatus.OK)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as keys_server:
        thread = threading.Thread(target=keys_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{keys_server.server_address[1]}/keys"
        keys_server.shutdown()
        thread.join()


@pytest.mark.timeout(120)
def test_a_new_key_is_fetched_when_a_token_names_it(
    key_url: str, tmp_path: Path, fresh_server: FreshServer
) -> None:
    """The provider replaces a key: its tokens are accepted soon, and those of the key that is gone no longer."""
    provider = Provider()
    (tmp_path / "keys.json").write_bytes(provider.jwks)
    (tmp_path / "identities.toml").write_text(identities(key_url))
    server = fresh_server(arguments=["--identities", str(tmp_path / "identities.toml")])
    with connect(server.address, "") as anyone:
        old = anyone.with_key(provider.token())
        old.call(old.access.WhoAmI, WHO_AM_I)
        provider.rotate("ES256")
        (tmp_path / "keys.json").write_bytes(provider.jwks)
        new = anyone.with_key(provider.token())

        assert is_refused(new)
        assert eventually(lambda: not is_refused(new), WAIT_SECONDS)
        assert is_refused(old)
