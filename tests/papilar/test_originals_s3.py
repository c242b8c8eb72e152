"""Originals in S3, over a socket: the tests of any place, and what only a bucket can be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from buckets import BUCKET, Objects, objects
from test_originals import TestFiles as Files
from test_originals import referring

from papilar.encryption import Keys
from papilar.errors import OriginalMissing, StorageFull, StorageUnavailable
from papilar.originals import Originals, Survey, survey
from papilar.store import Store

KEYS = Keys([bytes(range(32))])
URL = f"s3://{BUCKET}/originals"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    with objects(monkeypatch) as found:
        yield found


class TestBucket(Files):
    """The same as of a folder."""

    test_it_is_a_set_of_contents = None  # hypothesis lets one class do it

    @pytest.fixture
    def url(self, store: Objects) -> str:  # type: ignore[override]
        return URL

    @pytest.fixture
    def originals(self, url: str) -> Originals:
        return Originals(url, KEYS, gallery="g")


def test_what_was_begun_of_a_file_is_not_there(store: Objects) -> None:
    kept = Originals(URL, KEYS, gallery="g")
    store.line.left = 0
    with pytest.raises(StorageUnavailable) as caught:
        kept.put(bytes(1_000_000))
    assert caught.value.reason == "STORAGE_UNAVAILABLE"
    store.line.left = None
    assert (store.keys(), store.uploads()) == ([], 0)
    assert kept.get(kept.put(bytes(1_000_000))) == bytes(1_000_000)


def test_a_bucket_of_another_name_has_lost_nothing_and_erases_nothing(store: Objects) -> None:
    """Taken for an empty one, it would have what is to be erased forgotten, and kept in the right one."""
    kept = Originals(URL, KEYS, gallery="g")
    name = kept.put(b"a print")
    other = Originals("s3://another/originals", KEYS, gallery="g")
    for call in (other.get, other.delete, lambda _: list(other.names()), lambda _: other.put(b"a print")):
        with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
            call(name)
    assert kept.get(name) == b"a print"


def test_credentials_that_are_refused_are_no_missing_original(store: Objects) -> None:
    kept = Originals(URL, KEYS, gallery="g")
    name = kept.put(b"a print")
    store.let_in(0)
    with pytest.raises(StorageUnavailable, match=r"403|InvalidAccessKeyId") as caught:
        kept.get(name)
    assert BUCKET not in str(caught.value)
    store.let_in()
    with pytest.raises(OriginalMissing):
        kept.get(bytes(32))


@pytest.mark.parametrize("code", ["QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"])
def test_a_store_without_room_says_so(store: Objects, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """S3 has no such answer, Ceph and MinIO have."""
    kept = Originals(URL, KEYS, gallery="g")

    def full(*_: object, **__: object) -> None:
        raise OSError(5, "no") from ClientError({"Error": {"Code": code}}, "PutObject")

    monkeypatch.setattr(kept._place._fs, "pipe_file", full)  # type: ignore[attr-defined]
    with pytest.raises(StorageFull, match=code):
        kept.put(b"a print")


def test_an_encounter_whose_originals_cannot_be_kept_is_not_there(store: Objects, folder: Path) -> None:
    kept = Originals(URL, KEYS, gallery="g")
    with Store.open(folder, create=True, name="hn") as gallery:
        store.line.left = 0
        with pytest.raises(StorageUnavailable):
            referring(gallery, kept, b"a print")
        store.line.left = None
        assert survey(kept, gallery.originals) == Survey(0, (), ())
        referring(gallery, kept, b"a print")
        assert survey(kept, gallery.originals) == Survey(1, (), ())
