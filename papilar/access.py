"""The door for a node's own users: who calls is found out, asked what for, and written down, call by call.

A certificate or a bearer token names the person. A token wins, and one that is refused is not made up for by
a certificate. What was done goes to the log before the answer does: what cannot be logged is not answered.
"""

import hmac
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from matcher.errors import PapilarError
from papilar.audit.entry import KEY_BYTES, LIST_LENGTH, Act, Entry, Outcome, Sent, Side, subject_mark
from papilar.config import Users
from papilar.errors import CallerTooFast, CallerUnknown, CertificateRefused, ConfigInvalid
from papilar.identity import Identity, Kind
from papilar.oidc import Tokens
from papilar.tls import peer_certificate
from papilar.trust import Trust
from papilar.users import PERMITS, Caller, Mandate, admit, check_user, own_subject
from papilar.watch import OWN_PRINTS, PRINT

_T = TypeVar("_T")

Log = Callable[[Entry], object]

NOBODY = "@nobody"
"""Who stands in the log for a caller who is not known; no pseudonym can be that."""

ENCOUNTER = "ENCOUNTER"
"""Kind of what an entry names: the encounters of a stream."""

_OWN_SCORE = 3.0  # log10 LR from which a candidate is taken for the mate: 1,000 to 1
_MOST_PRINTS = LIST_LENGTH - 2  # of an entry: what else is sent has room beside them
_BEARER = "bearer "
_FAILED = "FAILED"  # code of an error that is not ours

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def caller() -> Caller | None:
    """Return who makes the call that this thread answers; None where the node does not ask."""
    return _caller.get()


class Access:
    """Lets calls in, or not. Without users everybody is let in; without a log nothing is written.

    Parameters
    ----------
    users : Users, optional
    log : callable, optional
        Takes an entry; what it raises ends the call.
    clock : callable
        The time, UTC.

    Raises
    ------
    ConfigInvalid
        The trust list, the provider's keys or the key of marks cannot be used.
    """

    def __init__(
        self,
        users: Users | None = None,
        log: Log | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._users = users
        self._log = log
        self._clock = clock
        self._pace = _Pace(users.calls_per_minute if users else 0)
        self._key = read_key(users.key) if users and users.key else None
        self.trust = Trust.load(users.trust) if users and users.trust else None
        oidc = users.oidc if users else None
        self._tokens = Tokens(oidc, country=users.country, key=self._key) if users and oidc else None

    def answer(self, method: str, request: Any, context: Any, work: Callable[[], _T]) -> _T:
        """Do a call's work for whoever may have it done, and log what was done or refused.

        Parameters
        ----------
        method : str
            Full name of the call.
        request : message, or iterator of messages
        context : grpc.ServicerContext
        work : callable
            Its answer is a message.

        Raises
        ------
        CallerUnknown, CallNotPermitted, PurposeMissing
            As `papilar.users.admit`.
        CallerTooFast
            The user has made too many calls in this minute. Others are answered.
        NodeError
            The identity provider's keys cannot be read.
        """
        who = self._admitted(method, context)
        act = PERMITS[method].act if method in PERMITS else Act.CONSULTATION
        write = partial(self._write, method, who, act)
        token = _caller.set(who)
        try:
            response = work()
        except Exception as error:
            code = error.reason if isinstance(error, PapilarError) else _FAILED
            write(Outcome.ERROR, code=code, sent=self._prints(request))
            raise
        finally:
            _caller.reset(token)
        sent, marks = self._sent(request, response, who), self._marks(request, response)
        write(_outcome(response), sent=sent, subjects=marks)
        return response

    # ---- who

    def _identity(self, context: Any) -> Identity | None:
        """Return who calls; None where the node asks nobody, or need not know."""
        users = self._users
        if users is None:
            return None
        shown = [v for k, v in context.invocation_metadata() if k == "authorization"]
        if shown and self._tokens is not None:
            return self._tokens.identity(_bearer(shown))
        if self.trust is None:
            if users.required:
                raise CallerUnknown("the call brings no token", remedy="send authorization: Bearer TOKEN")
            return None
        try:
            return self.trust.verify(peer_certificate(context), at=self._clock(), kind=Kind.USER)
        except CertificateRefused as error:
            raise CallerUnknown(error.cause, remedy=error.remedy) from None

    def _admitted(self, method: str, context: Any) -> Caller | None:
        known = None
        try:
            identity = self._identity(context)
            if self._users is None or identity is None:
                return None
            check_user(identity, country=self._users.country)
            known = Caller(identity)
            admitted = admit(method, identity, context.invocation_metadata())
            if PERMITS[method].about_persons and PERMITS[method].act is Act.CONSULTATION:
                self._pace.check(identity.name, self._clock())
            return admitted
        except PapilarError as error:
            self._write(method, known, Act.REFUSAL, Outcome.REFUSED, code=error.reason)
            raise

    # ---- what is written

    def _write(
        self, method: str, who: Caller | None, act: Act, outcome: Outcome, *, code: str = "", **data: Any
    ) -> None:
        if self._log is None:
            return
        entry = Entry(
            time=self._clock(),
            side=Side.OWN,
            act=act,
            outcome=outcome,
            officer=who.identity.name if who else NOBODY,
            code=code,
            note=method.rpartition("/")[2],
            **_words(who.mandate if who else None),
            **data,
        )
        self._log(entry)

    def _sent(self, request: Any, response: Any, who: Caller | None) -> tuple[Sent, ...]:
        own = who is not None and own_subject(who.identity.name) in _subjects(request, response, _OWN_SCORE)
        many = len(getattr(response, "outcomes", ()))
        return (
            *self._prints(request),
            *([Sent(OWN_PRINTS, 1)] if own else []),
            *([Sent(ENCOUNTER, many)] if many else []),
        )

    def _prints(self, request: Any) -> tuple[Sent, ...]:
        """Return a keyed digest of each print of a request: the same print has the same one."""
        if self._log is None:
            return ()
        prints: Sequence[Any] = getattr(request, "probe", ()) or getattr(_enrollment(request), "prints", ())
        return tuple(Sent(PRINT, 1, self._digest(one)) for one in prints[:_MOST_PRINTS])

    def _digest(self, one: Any) -> str:
        if self._key is None:
            return ""
        source = one.image.data or one.template.data
        return hmac.digest(self._key, b"papilar print\0" + source, "sha256").hex()

    def _marks(self, request: Any, response: Any) -> tuple[str, ...]:
        """Return the marks of all subjects that a call was about or told of."""
        if self._key is None or self._log is None:
            return ()
        subjects = dict.fromkeys(_subjects(request, response))
        return tuple(subject_mark(self._key, subject) for subject in list(subjects)[:LIST_LENGTH])


class _Pace:
    """Counts each user's calls in the present minute, so that one in a loop is stopped, and nobody else."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._minute, self._calls = datetime.min, Counter[str]()

    def check(self, user: str, now: datetime) -> None:
        minute = now.replace(second=0, microsecond=0)
        with self._lock:
            if minute != self._minute:
                self._minute, self._calls = minute, Counter()
            self._calls[user] += 1
            fits = self._calls[user] <= self._most
        if not fits:
            cause = f"more than {self._most} calls in a minute"
            raise CallerTooFast(cause, remedy=f"try again in {60 - now.second} s")


def _words(mandate: Mandate | None) -> Mapping[str, Any]:
    if mandate is None:
        return {"justification": "none was given"}
    return {
        "justification": mandate.justification,
        "purpose": mandate.purpose.upper(),
        "reason": mandate.reason,
        "legal_basis": str(mandate.legal_basis),
        "offence_class": mandate.offence_class.upper(),
        "case_reference": mandate.case_reference,
        "ordering_officer": mandate.ordering_officer,
    }


def _bearer(shown: Sequence[Any]) -> str:
    scheme = str(shown[0])[: len(_BEARER)]
    if len(shown) != 1 or not isinstance(shown[0], str) or scheme.lower() != _BEARER:
        raise CallerUnknown("the authorization is no token", remedy="send authorization: Bearer TOKEN, once")
    return shown[0][len(_BEARER) :]


def _outcome(response: Any) -> Outcome:
    if not hasattr(response, "searched_prints"):
        return Outcome.DONE
    return Outcome.CANDIDATES if response.candidates else Outcome.NO_HIT


def _enrollment(request: Any) -> Any:
    return getattr(request, "enrollment", None)


def _subjects(request: Any, response: Any, least: float = -math.inf) -> Iterator[str]:
    """Yield the subjects that a call names, enrols or shows, and its candidates of at least this score."""
    parts = [response, *getattr(response, "outcomes", ())]
    named = [request, _enrollment(request)]
    named += [getattr(part, name, None) for part in parts for name in ("enrolled", "encounter", "case")]
    named += getattr(response, "cases", ())
    for name in ("subject_id", "other_subject_id"):
        yield from filter(None, (getattr(one, name, "") for one in named))
    parts += [getattr(part, "duplicate", None) for part in parts]
    shown = (one for part in parts for one in getattr(part, "candidates", ()))
    yield from (one.subject_id for one in shown if one.score >= least)


def read_key(path: Path) -> bytes:
    """Return the key of marks that a file holds, hexadecimal.

    Raises
    ------
    ConfigInvalid
        It cannot be read, is none, or is shorter than `KEY_BYTES`.
    """
    try:
        key = bytes.fromhex(path.read_text("ascii"))
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read ({error.strerror})", remedy="check the path") from error
    except ValueError:  # not chained: the key stays out of every message
        key = b""
    if len(key) < KEY_BYTES:
        raise ConfigInvalid(f"{path} holds no key", remedy=f"write {KEY_BYTES} random bytes, hexadecimal")
    return key
