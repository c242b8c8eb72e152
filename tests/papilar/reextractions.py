"""What the tests of re-extraction share: a stand-in for the extractor, and a run that is killed half way.

An "image" here is a template record. The old extractor sees only some of its minutiae, the present one all.
So nothing waits for a network, and which of the two made a template is plain.
"""

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nodes import record

import papilar.reextraction as module
from enroll.errors import ImageTruncated
from enroll.gate import QualityGate
from matcher.codecs import decode
from matcher.cylinders import prepare
from matcher.gallery import Gallery
from papilar.encryption import Keys
from papilar.node import Node
from papilar.originals import Originals
from papilar.prints import ReadPrint, read_prints
from papilar.reextraction import Report
from papilar.requests import Enrolled, Enrollment, PrintInput
from papilar.store import Store
from papilar.store.anew import AnewRows

KEYS = Keys([bytes(32)])
MINUTIAE, FEWER = 36, 24


def opened(url: str, gallery: str) -> Originals:
    return Originals(url, KEYS, gallery=gallery)


def present(
    prints: Sequence[PrintInput],
    *,
    keep_images: bool = False,
    deadline: float | None = None,
    gate: QualityGate | None = None,
) -> list[ReadPrint]:
    """Read records that come as images."""
    if any(one.image and one.image.startswith(b"broken") for one in prints):
        raise ImageTruncated("print 0: cut short", remedy="send it again")
    given = [one if one.image is None else replace(one, image=None, template=one.image) for one in prints]
    return read_prints(given, keep_images=keep_images, deadline=deadline, gate=gate)


def former(prints: Sequence[PrintInput], **more: Any) -> list[ReadPrint]:
    """Read them as the old extractor did, which was also content with what the present one cannot read."""
    sound = [
        replace(one, image=one.image.removeprefix(b"broken")) if one.image is not None else one
        for one in prints
    ]
    return [_fewer(one) for one in present(sound, **more)]


def _fewer(one: ReadPrint) -> ReadPrint:
    t = one.template
    some = replace(t, xy=t.xy[:FEWER], angle=t.angle[:FEWER], kind=t.kind[:FEWER], quality=t.quality[:FEWER])
    return one._replace(template=some, prepared=prepare(some))


def enrol(node: Node, seed: int, *, broken: bool = False) -> Enrolled:
    image = record(seed, n=MINUTIAE)
    given = PrintInput(image=b"broken" + image if broken else image)
    done = node.enroll(Enrollment((given,), subject_id=f"s{seed}"))
    assert isinstance(done, Enrolled)
    return done


def old_gallery(folder: Path, url: str, *seeds: int, store: str = "") -> None:
    """Make a gallery as the old extractor left it."""
    with Node(folder, create=True, store=store, read=former, originals=partial(opened, url)) as node:
        for seed in seeds:
            enrol(node, seed)
        node._store.note({"extractor": "former"})


def minutiae(node: Node) -> dict[str, int]:
    """How many minutiae each subject's template has: 24 by the old extractor, 36 by the present one."""
    return {
        node._store.owners([one.row])[one.row].subject_id: len(decode(one.template)[0])
        for one in node._store.templates()
    }


def reextract(node: Node, *, threads: int = 2) -> Report:
    return node.reextraction(present, threads=threads).run()


# ---- a run that is killed


def _points() -> dict[str, tuple[object, str, bool]]:
    """Where a run may be killed: object, attribute, and whether before or after."""
    return {
        "begin": (AnewRows, "begin", True),
        "write": (AnewRows, "write", False),
        "build": (Gallery, "add", False),
        "seal": (Gallery, "seal", False),
        "before the switch": (Store, "renew", True),
        "after the switch": (Store, "renew", False),
        "adopted": (Gallery, "adopt", False),
        "old segments": (shutil, "rmtree", True),
        "settle": (AnewRows, "settle", False),
    }


def killed_at(call: Callable[..., Any], times: int, *, before: bool) -> Callable[..., Any]:
    left = [times]

    def wrapped(*given: Any, **named: Any) -> Any:
        result = None if before else call(*given, **named)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named) if before else result

    return wrapped


def run_until_killed(folder: Path, url: str, point: str, times: int) -> None:
    """Re-extract a gallery, and be killed at a point when it is come to so many a time; for a process."""
    for name, value in {"_BATCH": 1, "_SETTLED": 2, "SEAL_AFTER": 3}.items():
        setattr(module, name, value)
    where, what, before = _points()[point]
    with Node(folder, read=present, originals=partial(opened, url)) as node:
        setattr(where, what, killed_at(getattr(where, what), times, before=before))
        reextract(node, threads=1)
    raise AssertionError(f"it never came to {point} {times} times")
