"""Bearer tokens of an identity provider: a JWT to whom it names. The one place that imports PyJWT.

A token must be signed by a key of the provider's key set, be for this node, and be within its time. It counts
for whoever brings it, so it travels over TLS alone. Nothing of a token goes into an error or a log.

References
----------
RFC 7519 (JWT), RFC 7517 (key sets), RFC 8725 (what goes wrong with them), OpenID Connect Core 1.0, section 2.
"""

import hmac
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt

from papilar.audit.entry import KEY_BYTES
from papilar.config import Oidc
from papilar.errors import CallerUnknown, ConfigInvalid, NodeError
from papilar.identity import Identity, Kind, Role
from papilar.users import is_pseudonym

ALGORITHMS = ("ES256", "EdDSA", "PS256", "RS256")
"""Signatures that are taken: public keys only, so that no public key can pass for a shared secret."""

_MOST_BYTES = 16 * 1024  # of a token
_FETCH_SECONDS = 5.0
_KEEP_SECONDS = 300.0  # a key that the provider takes back is believed for so long
_CLAIMS = ("exp", "iat", "iss", "aud")
_HASHED = "h-"

_Find = Callable[[str], jwt.PyJWK]


class Tokens:
    """Reads the tokens of one provider; safe to use from several threads.

    Parameters
    ----------
    settings : Oidc
    country : str
        The node's own, ISO 3166-1 alpha-3: a provider names users of it alone.
    key : bytes, optional
        Makes pseudonyms of subjects that are none; without it they are refused.

    Raises
    ------
    ConfigInvalid
        The file of keys cannot be used, or the key is too short.
    """

    def __init__(self, settings: Oidc, *, country: str, key: bytes | None = None) -> None:
        if key is not None and len(key) < KEY_BYTES:
            raise ConfigInvalid("the key for pseudonyms is short", remedy=f"give {KEY_BYTES} random bytes")
        self._settings = settings
        self._country = country
        self._key = key
        self._find = _finder(settings.keys)

    def identity(self, token: str) -> Identity:
        """Return whom a token names.

        Raises
        ------
        CallerUnknown
            It is no token, not signed by a key of the provider, for others, out of its time, or names nobody
            who has a role here.
        NodeError
            The provider's keys cannot be read at this time.
        """
        claims = self._claims(token)
        return Identity(self._country, Kind.USER, self._pseudonym(claims), self._roles(claims))

    def _claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > _MOST_BYTES:
            raise _refused("it is too long")
        try:
            return jwt.decode(
                token,
                self._find(str(jwt.get_unverified_header(token).get("kid", ""))),
                algorithms=ALGORITHMS,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=timedelta(seconds=self._settings.skew_seconds),
                options={"require": [*_CLAIMS, self._settings.pseudonym_claim]},
            )
        except jwt.PyJWKClientConnectionError:
            raise _away() from None
        # Deep JSON and odd numbers get through the library as they are. Not chained: its words quote claims.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _refused(_FLAWS.get(type(error), "it cannot be verified")) from None

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        """Return the roles of ours; a provider has others for other systems."""
        given = claims.get(self._settings.roles_claim)
        roles = frozenset(role for role in Role if isinstance(given, list) and str(role) in given)
        if not roles:
            raise _refused("it gives no role of ours")
        return roles

    def _pseudonym(self, claims: Mapping[str, Any]) -> str:
        named = claims[self._settings.pseudonym_claim]
        if not isinstance(named, str) or not named:
            raise _refused("it names nobody")
        if is_pseudonym(named) and not named.startswith(_HASHED):
            return named
        if self._key is None:
            raise _refused("it names someone other than by a pseudonym")
        message = f"papilar oidc\0{self._settings.issuer}\0{named}".encode("utf-8", "surrogatepass")
        return _HASHED + hmac.digest(self._key, message, "sha256").hex()[:32]


_FLAWS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "its time is over",
    jwt.InvalidAlgorithmError: "its algorithm is not taken",
    jwt.ImmatureSignatureError: "its time has not come",
    jwt.InvalidAudienceError: "it is for others",
    jwt.InvalidIssuerError: "it is another provider's",
    jwt.MissingRequiredClaimError: "a claim is missing",
}


def _refused(flaw: str) -> CallerUnknown:
    return CallerUnknown(f"the token is refused: {flaw}", remedy="fetch a new one for this node")


def _away() -> NodeError:
    return NodeError("the identity provider's keys cannot be read", remedy="see that it runs")


def _finder(keys: str) -> _Find:
    if "://" in keys:
        client = jwt.PyJWKClient(keys, lifespan=_KEEP_SECONDS, timeout=_FETCH_SECONDS)
        return client.get_signing_key
    path = Path(keys)
    try:
        _read(path)
    except (OSError, ValueError, jwt.PyJWTError):
        raise ConfigInvalid(f"{keys} holds no keys of tokens", remedy="give a JSON Web Key Set") from None
    return lambda kid: _from_file(path, kid)


def _from_file(path: Path, kid: str) -> jwt.PyJWK:
    """Return a key of a file, which is read for each token: a key that is taken out counts no more."""
    try:
        found = [key for key in _read(path).keys if key.key_id == kid and key.public_key_use in ("sig", None)]
    except (OSError, ValueError, jwt.PyJWTError):
        raise _away() from None
    if len(found) != 1:
        raise _refused("its key is not the provider's")
    return found[0]


def _read(path: Path) -> jwt.PyJWKSet:
    values = json.loads(path.read_bytes())
    return jwt.PyJWKSet.from_dict(values if isinstance(values, dict) else {})
