"""Tokens with real keys: what is believed, and every way that a token may be wrong."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import time
from typing import Any, ClassVar

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from papilar.config import Oidc
from papilar.errors import CallerUnknown, ConfigInvalid, NodeError, TransportInsecure
from papilar.identity import Identity, Kind, Role
from papilar.oidc import Tokens

ISSUER, AUDIENCE = "https://login.example.org", "papilar"
KEY = bytes(range(32))
RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = Ed25519PrivateKey.generate()
KEYS: dict[str, Any] = {"RS256": RSA, "PS256": RSA, "ES256": CURVE, "EdDSA": EDWARDS}
MAKERS: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


def public(name: str, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = MAKERS[name].to_jwk(KEYS[name].public_key(), as_dict=True)
    return values | {"kid": name} | more


def key_set(*names: str) -> dict[str, Any]:
    ps256 = public("RS256", kid="PS256", alg="PS256")
    return {"keys": [ps256 if name == "PS256" else public(name) for name in names or KEYS]}


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time())
    values = {"iss": ISSUER, "aud": AUDIENCE, "iat": now - 5, "exp": now + 300, "sub": "e7"}
    values |= {"papilar_roles": ["examiner", "offline_access"]} | changed
    return {key: value for key, value in values.items() if value is not None}


def token(name: str = "RS256", *, kid: str | None = None, key: Any = None, **changed: Any) -> str:
    return jwt.encode(claims(**changed), key or KEYS[name], name, headers={"kid": kid or name})


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("oidc") / "keys.json"
    path.write_text(json.dumps(key_set()))
    return path


@pytest.fixture(scope="module")
def tokens(file: Path) -> Tokens:
    return Tokens(Oidc(ISSUER, AUDIENCE, str(file)), country="SLV", key=KEY)


class TestWhoIsNamed:
    @pytest.mark.parametrize("name", KEYS)
    def test_by_every_algorithm_that_is_taken(self, tokens: Tokens, name: str) -> None:
        assert tokens.identity(token(name)) == Identity("SLV", Kind.USER, "e7", frozenset({Role.EXAMINER}))

    def test_all_roles_of_ours_and_no_others(self, tokens: Tokens) -> None:
        given = [*map(str, Role), "root", "Examiner", 5, None, ["officer"]]
        assert tokens.identity(token(papilar_roles=given)).roles == frozenset(Role)

    def test_several_audiences(self, tokens: Tokens) -> None:
        assert tokens.identity(token(aud=["other", AUDIENCE])).name == "e7"

    def test_claims_by_other_names(self, file: Path) -> None:
        settings = Oidc(ISSUER, AUDIENCE, str(file), roles_claim="groups", pseudonym_claim="badge")
        found = Tokens(settings, country="SLV").identity(token(groups=["officer"], badge="b4", sub=None))
        assert found == Identity("SLV", Kind.USER, "b4", frozenset({Role.OFFICER}))

    @given(st.text(min_size=1, max_size=80))
    @example("\ud800")
    def test_whoever_it_is_has_one_pseudonym(self, tokens: Tokens, subject: str) -> None:
        text = token("EdDSA", sub=subject)
        found = tokens.identity(text)
        assert Identity.parse(found.uri) == found
        assert found == tokens.identity(text)
        assert found.name == subject or found.name not in subject

    def test_a_name_becomes_a_pseudonym_that_only_the_key_gives(self, tokens: Tokens, file: Path) -> None:
        subject = "María López <maria@example.org>"
        mine = tokens.identity(token(sub=subject)).name
        assert mine.startswith("h-")
        other = Tokens(Oidc(ISSUER, AUDIENCE, str(file)), country="SLV", key=bytes(32))
        assert other.identity(token(sub=subject)).name != mine

    def test_nobody_takes_the_pseudonym_of_another(self, tokens: Tokens) -> None:
        hashed = tokens.identity(token(sub="M.L.")).name
        assert tokens.identity(token(sub=hashed)).name != hashed

    def test_without_a_key_a_name_is_refused(self, file: Path) -> None:
        plain = Tokens(Oidc(ISSUER, AUDIENCE, str(file)), country="SLV")
        assert plain.identity(token()).name == "e7"
        for subject in ("M.L.", "h-1"):
            with pytest.raises(CallerUnknown, match="pseudonym"):
                plain.identity(token(sub=subject))


PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
OTHER = rsa.generate_private_key(65537, 2048)


def confused(secret: bytes, **head: Any) -> str:
    """A token that takes a public key for a shared secret."""
    text = f"{part({'alg': 'HS256', 'kid': 'RS256', **head})}.{part(claims())}"
    return f"{text}.{part(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def unsigned(alg: str) -> str:
    return f"{part({'alg': alg, 'kid': 'RS256'})}.{part(claims())}."


def resigned(**changed: Any) -> str:
    head, _, signature = token().split(".")
    return f"{head}.{part(claims(**changed))}.{signature}"


def by_hand(**changed: Any) -> str:
    """A token with what PyJWT would not sign."""
    text = f"{part({'alg': 'RS256', 'kid': 'RS256'})}.{part(claims(**changed))}"
    return f"{text}.{part(RSA.sign(text.encode(), PKCS1v15(), SHA256()))}"


def now(seconds: int) -> int:
    return int(time()) + seconds


ATTACKS: dict[str, tuple[Any, str]] = {
    "alg none": (lambda: unsigned("none"), "algorithm"),
    "alg None": (lambda: unsigned("None"), "algorithm"),
    "no alg": (lambda: f"{part({'kid': 'RS256'})}.{part(claims())}.", "refused"),
    "alg a list": (lambda: f"{part({'alg': ['RS256'], 'kid': 'RS256'})}.{part(claims())}.", "refused"),
    "HMAC with the public key": (lambda: confused(PUBLIC_PEM), "algorithm"),
    "HMAC with the JSON of it": (lambda: confused(json.dumps(public("RS256")).encode()), "algorithm"),
    "HMAC with nothing": (lambda: confused(b""), "algorithm"),
    "another key of that name": (lambda: token(key=OTHER), "verified"),
    "a key it brings itself": (
        lambda: jwt.encode(
            claims(),
            OTHER,
            "RS256",
            headers={"kid": "RS256", "jwk": RSAAlgorithm.to_jwk(OTHER.public_key(), as_dict=True)},
        ),
        "verified",
    ),
    "a key from elsewhere": (
        lambda: jwt.encode(claims(), OTHER, "RS256", headers={"kid": "x", "jku": "http://127.0.0.1:1/"}),
        "key is not",
    ),
    "a path for a key": (lambda: token(kid="../../../dev/null"), "key is not"),
    "SQL for a key": (lambda: token(kid="' OR 1=1 --"), "key is not"),
    "no key": (lambda: jwt.encode(claims(), RSA, "RS256"), "key is not"),
    "a key of another algorithm": (lambda: token("RS256", kid="ES256"), "algorithm"),
    "an algorithm that the key is not for": (lambda: token("RS256", kid="PS256"), "algorithm"),
    "other claims under the signature": (lambda: resigned(papilar_roles=["supervisor"]), "verified"),
    "a critical header": (
        lambda: jwt.encode(claims(), RSA, "RS256", headers={"kid": "RS256", "crit": ["x"], "x": 1}),
        "verified",
    ),
    "expired": (lambda: token(exp=now(-31)), "time is over"),
    "never ending": (lambda: token(exp=None), "missing"),
    "ending at no time": (lambda: token(exp="tomorrow"), "verified"),
    "ending at infinity": (lambda: token(exp=float("inf")), "verified"),
    "not yet": (lambda: token(nbf=now(60)), "not come"),
    "made in the future": (lambda: token(iat=now(60)), "not come"),
    "made at no time": (lambda: token(iat=None), "missing"),
    "another audience": (lambda: token(aud="payroll"), "others"),
    "no audience": (lambda: token(aud=None), "missing"),
    "an audience that begins alike": (lambda: token(aud=["papilar2", "PAPILAR"]), "others"),
    "another issuer": (lambda: token(iss="https://login.example.org.evil.example"), "another provider"),
    "no issuer": (lambda: token(iss=None), "missing"),
    "several issuers": (lambda: by_hand(iss=[ISSUER]), "another provider"),
    "nobody": (lambda: token(sub=None), "missing"),
    "nobody by name": (lambda: token(sub=""), "nobody"),
    "no role": (lambda: token(papilar_roles=None), "no role"),
    "no role of ours": (lambda: token(papilar_roles=["root"]), "no role"),
    "roles as a text": (lambda: token(papilar_roles="examiner"), "no role"),
    "roles as a table": (lambda: token(papilar_roles={"examiner": True}), "no role"),
    "nothing": (lambda: "", "refused"),
    "two parts": (lambda: "a.b", "refused"),
    "no text": (lambda: "\x00\x01.\x02.\x03", "refused"),
    "deep": (lambda: f"{part(b'[' * 6000)}.{part(b'{}')}.x", "refused"),
    "long": (lambda: "a" * 100_000, "too long"),
}


class TestAttacks:
    @pytest.mark.parametrize("attack", ATTACKS)
    def test_it_is_refused(self, tokens: Tokens, attack: str) -> None:
        make, says = ATTACKS[attack]
        with pytest.raises(CallerUnknown, match=says) as refused:
            tokens.identity(make())
        assert refused.value.__cause__ is None
        for secret in ("e7", "evil", "payroll", "root"):
            assert secret not in str(refused.value)

    def test_each_attack_is_one_step_from_a_token_that_is_taken(self, tokens: Tokens) -> None:
        for near in (by_hand(), token(exp=now(-20)), token(nbf=now(20)), token(iat=now(20))):
            assert tokens.identity(near).name == "e7"

    @given(st.text(max_size=200) | st.lists(st.binary(max_size=40).map(part), max_size=4).map(".".join))
    def test_whatever_comes_is_refused(self, tokens: Tokens, text: str) -> None:
        with pytest.raises(CallerUnknown):
            tokens.identity(text)

    def test_a_shared_secret_among_the_keys_is_not_one(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"
        secret = {"kty": "oct", "k": part(b"s" * 32), "kid": "s", "alg": "HS256"}
        path.write_text(json.dumps({"keys": [secret, public("ES256")]}))
        tokens = Tokens(Oidc(ISSUER, AUDIENCE, str(path)), country="SLV")
        with pytest.raises(CallerUnknown, match="algorithm"):
            tokens.identity(jwt.encode(claims(), b"s" * 32, "HS256", headers={"kid": "s"}))

    def test_a_key_for_encryption_signs_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"
        path.write_text(json.dumps({"keys": [public("ES256", use="enc")]}))
        with pytest.raises(CallerUnknown, match="key is not"):
            Tokens(Oidc(ISSUER, AUDIENCE, str(path)), country="SLV").identity(token("ES256"))


class TestKeys:
    def test_a_file_is_read_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"
        path.write_text(json.dumps(key_set("RS256")))
        tokens = Tokens(Oidc(ISSUER, AUDIENCE, str(path)), country="SLV")
        assert tokens.identity(token("RS256")).name == "e7"
        path.write_text(json.dumps(key_set("ES256")))
        assert tokens.identity(token("ES256")).name == "e7"
        with pytest.raises(CallerUnknown, match="key is not"):
            tokens.identity(token("RS256"))
        path.write_text("half a fi")
        with pytest.raises(NodeError):
            tokens.identity(token("ES256"))

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "none"}]}'])
    def test_a_file_without_keys(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "keys.json"
        path.write_text(text)
        with pytest.raises(ConfigInvalid):
            Tokens(Oidc(ISSUER, AUDIENCE, str(path)), country="SLV")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigInvalid):
            Tokens(Oidc(ISSUER, AUDIENCE, str(tmp_path / "absent")), country="SLV")

    def test_a_short_key_for_pseudonyms(self, file: Path) -> None:
        with pytest.raises(ConfigInvalid):
            Tokens(Oidc(ISSUER, AUDIENCE, str(file)), country="SLV", key=b"short")

    @pytest.mark.parametrize("url", ["http://example.org/keys", "ftp://127.0.0.1/k", "http://[::1", "x://y"])
    def test_keys_over_plain_text(self, url: str) -> None:
        with pytest.raises(TransportInsecure):
            Oidc(ISSUER, AUDIENCE, url)


class Provider(BaseHTTPRequestHandler):
    """Serves a key set, and counts."""

    body: ClassVar[bytes] = b""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def provider() -> Iterator[HTTPServer]:
    Provider.asked.clear()
    Provider.body = json.dumps(key_set()).encode()
    with HTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def from_provider(server: HTTPServer) -> Tokens:
    return Tokens(Oidc(ISSUER, AUDIENCE, f"http://127.0.0.1:{server.server_port}/keys"), country="SLV")


class TestProvider:
    def test_keys_are_fetched_once(self, provider: HTTPServer) -> None:
        tokens = from_provider(provider)
        for name in KEYS:
            assert tokens.identity(token(name)).name == "e7"
        assert Provider.asked == ["/keys"]

    def test_unknown_keys_do_not_make_it_fetch_again_and_again(self, provider: HTTPServer) -> None:
        tokens = from_provider(provider)
        for number in range(20):
            with pytest.raises(CallerUnknown):
                tokens.identity(token(kid=f"k{number}"))
        assert len(Provider.asked) <= 2

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": []}', b"\xff"])
    def test_a_provider_that_serves_no_keys(self, provider: HTTPServer, body: bytes) -> None:
        Provider.body = body
        with pytest.raises((CallerUnknown, NodeError)):
            from_provider(provider).identity(token())

    def test_a_provider_that_is_down(self, provider: HTTPServer) -> None:
        tokens = from_provider(provider)
        url = f"http://127.0.0.1:{provider.server_port}/keys"
        provider.shutdown()
        provider.server_close()
        with pytest.raises(NodeError) as refused:
            tokens.identity(token())
        assert url not in str(refused.value)
