"""The store, on SQLite and on PostgreSQL: what it keeps, what it repeats, what it forgets."""

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from stores import (
    FILE,
    a_print,
    a_request,
    an_encounter,
    everything_on_disk,
    new_id,
)

from matcher.template import Finger, Impression
from papilar.errors import (
    EncounterErased,
    EncounterExists,
    EncounterUnknown,
    RequestConflict,
    RequestInvalid,
    StorageUnavailable,
)
from papilar.store import (
    Counts,
    MissingFinger,
    MissingReason,
    NewEncounter,
    NewPrint,
    Request,
    Store,
    Written,
    canonical_uuid,
    migrations,
)


class TestWhatItKeeps:
    def test_an_encounter_comes_back_as_it_went_in(self, store: Store) -> None:
        missing = (
            MissingFinger(Finger(7), MissingReason.BANDAGED),
            MissingFinger(Finger(3), MissingReason.AMPUTATED),
        )
        judged = replace(a_print(2), nfiq2=0, nfiq2_version="2.3.0 (nbis-py 0.1.3)")
        prints = (a_print(1, image=b"picture"), judged, a_print(1, template=bytes(9000)), a_print(0))
        new = NewEncounter("s-1", new_id(), prints, missing)
        written = store.enroll(new)
        assert written == Written((1, 2, 3, 4), True, None, False)
        found = store.encounter(new.encounter_id, images=True)
        assert (found.subject_id, found.encounter_id) == (new.subject_id, new.encounter_id)
        assert found.missing == missing[::-1]
        assert abs(datetime.now(UTC) - found.created) < timedelta(minutes=1)
        for ordinal, (was, now) in enumerate(zip(prints, found.prints, strict=True)):
            assert (now.row, now.ordinal, now.encounter_id) == (ordinal + 1, ordinal, new.encounter_id)
            for field in fields(NewPrint):
                assert getattr(now, field.name) == getattr(was, field.name)

    def test_images_come_only_when_asked_for(self, store: Store) -> None:
        new = an_encounter(prints=(a_print(image=b"picture"),))
        store.enroll(new)
        assert store.encounter(new.encounter_id).prints[0].image is None
        assert store.encounters_of("subject", images=True)[0].prints[0].image == b"picture"

    def test_a_subject_has_encounters(self, store: Store) -> None:
        first, second, other = an_encounter("a"), an_encounter("a"), an_encounter("b")
        changed = [store.enroll(new).subject_changed for new in (first, second, other)]
        assert changed == [True, False, True]
        assert [e.encounter_id for e in store.encounters_of("a")] == [first.encounter_id, second.encounter_id]
        assert store.encounters_of("nobody") == ()
        assert store.counts() == Counts(subjects=2, encounters=3, prints=3)

    def test_templates_stream_in_order_from_any_row(self, store: Store) -> None:
        for start in range(0, 1200, 40):
            prints = tuple(a_print(template=b"t%d" % (start + i)) for i in range(40))
            store.enroll(an_encounter(f"s{start}", prints))
        assert [item.template for item in store.templates()] == [b"t%d" % i for i in range(1200)]
        assert [item.row for item in store.templates(after_row=1190)] == list(range(1191, 1201))
        assert list(store.templates(after_row=1200)) == []
        np.testing.assert_array_equal(store.live_rows(), np.arange(1, 1201))
        assert store.live_rows().dtype == np.int64
        owners = store.owners(np.arange(0, 2000))
        assert sorted(owners) == list(range(1, 1201))
        assert (owners[41].subject_id, owners[41].ordinal, owners[80].ordinal) == ("s40", 0, 39)

    def test_a_gallery_knows_its_facts(self, store: Store, target: Path | str) -> None:
        store.note({"extractor": "leader-2", "calibration": "c1"})
        assert (store.gallery.name, store.gallery.schema_version) == ("hn", migrations.newest())
        store.close()
        with Store.open(target) as again:
            assert again.gallery == store.gallery
            assert again.gallery.facts == {"extractor": "leader-2", "calibration": "c1"}

    def test_creating_twice_opens_what_is_there(self, store: Store, target: Path | str) -> None:
        store.enroll(an_encounter())
        store.close()
        with Store.open(target, create=True, name="hn", facts={"extractor": "other"}) as again:
            assert again.counts().prints == 1
            assert again.gallery.facts == {"extractor": "leader-1"}

    def test_only_the_owner_reads_the_files(self, file_store: Store, folder: Path) -> None:
        file_store.enroll(an_encounter())
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_a_url_opens_a_data_base(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/by-url.db"
        with Store.open(url, create=True, name="gt") as store:
            store.enroll(an_encounter())
        with Store.open(url) as store:
            assert (store.gallery.name, store.counts().prints) == ("gt", 1)


class TestRepeats:
    def test_a_repeat_changes_nothing_and_gets_the_first_answer(self, store: Store) -> None:
        new, request = an_encounter(), a_request()
        assert store.replay(request.request_id, request.digest) is None
        assert store.enroll(new, request=request).response == b"response"
        again = Request(request.request_id, request.digest, lambda _: b"another response")
        assert store.enroll(an_encounter(), request=again) == Written((), False, b"response", True)
        assert store.replay(request.request_id, request.digest) == b"response"
        assert store.counts().encounters == 1

    def test_other_content_under_the_same_id_is_refused(self, store: Store) -> None:
        request = a_request()
        store.enroll(an_encounter(), request=request)
        other = Request(request.request_id, b"other digest", lambda _: b"")
        for attempt in (
            lambda: store.enroll(an_encounter(), request=other),
            lambda: store.delete(new_id(), request=other),
            lambda: store.replay(other.request_id, other.digest),
        ):
            with pytest.raises(RequestConflict, match=request.request_id):
                attempt()
        assert store.counts().encounters == 1

    def test_a_late_repeat_does_not_bring_back_the_erased(self, store: Store) -> None:
        new, request = an_encounter(), a_request()
        store.enroll(new, request=request)
        store.delete(new.encounter_id)
        with pytest.raises(EncounterErased):
            store.enroll(new, request=request)
        with pytest.raises(EncounterErased):
            store.replay(request.request_id, request.digest)
        assert store.counts() == Counts(0, 0, 0)
        store.enroll(new, request=a_request())

    def test_a_deletion_repeats_too(self, store: Store) -> None:
        new = an_encounter(prints=(a_print(1), a_print(2)))
        store.enroll(new)
        seen: list[Written] = []

        def answer(written: Written) -> bytes:
            seen.append(written)
            return b"%d" % len(written.rows)

        request = Request(new_id(), b"digest", answer)
        assert store.delete(new.encounter_id, request=request) == Written((1, 2), True, b"2", False)
        assert store.delete(new.encounter_id, request=request) == Written((), False, b"2", True)
        assert seen == [Written((1, 2), True, None, False)]

    def test_equal_requests_at_once_enrol_once(self, store: Store) -> None:
        request, start = a_request(), Barrier(8)

        def attempt(_: int) -> Written:
            start.wait()
            return store.enroll(an_encounter(), request=request)

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(attempt, range(8)))
        assert sorted(o.repeated for o in outcomes) == [False] + [True] * 7
        assert {o.response for o in outcomes} == {b"response"}
        assert store.counts().encounters == 1

    def test_an_answer_that_fails_undoes_the_enrolment(self, store: Store) -> None:
        def fail(_: Written) -> bytes:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.enroll(an_encounter(), request=Request(new_id(), b"digest", fail))
        assert store.counts() == Counts(0, 0, 0)


class TestForgetting:
    def test_nothing_of_the_erased_stays_in_the_files(self, file_store: Store, folder: Path) -> None:
        mark = b"ridge ending, secret"
        prints = tuple(a_print(f, template=mark * 300, image=mark * 5000) for f in range(1, 5))
        gone = NewEncounter("subject-to-forget", new_id(), prints)
        request = a_request(response=b"response to forget")
        stays = an_encounter("stays", (a_print(template=b"what stays" * 100),))
        file_store.enroll(gone, request=request)
        file_store.enroll(stays)
        traces = (
            mark,
            gone.subject_id.encode(),
            gone.encounter_id.encode(),
            b"response to forget",
            request.digest,
        )
        assert all(trace in everything_on_disk(folder) for trace in traces)
        assert file_store.delete(gone.encounter_id).rows == (1, 2, 3, 4)
        assert [trace for trace in traces if trace in everything_on_disk(folder)] == []
        assert b"what stays" in everything_on_disk(folder)
        with pytest.raises(EncounterUnknown):
            file_store.encounter(gone.encounter_id)
        assert file_store.owners([1, 2, 3, 4, 5]).keys() == {5}
        assert file_store.live_rows().tolist() == [5]

    def test_a_reader_in_the_way_only_delays_it(self, file_store: Store, folder: Path) -> None:
        mark = b"ridge ending, secret"
        gone = an_encounter("a", (a_print(template=mark * 300),))
        file_store.enroll(gone)
        with closing(sqlite3.connect(folder / FILE)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM print").fetchone()
            file_store.delete(gone.encounter_id)
            assert mark in everything_on_disk(folder)
            reader.execute("COMMIT")
        file_store.enroll(an_encounter("b"))
        assert mark not in everything_on_disk(folder)

    def test_a_subject_goes_with_its_last_encounter(self, store: Store) -> None:
        first, second = an_encounter(), an_encounter()
        store.enroll(first)
        store.enroll(second)
        assert store.delete(first.encounter_id).subject_changed is False
        assert store.delete(second.encounter_id).subject_changed is True
        assert store.counts() == Counts(0, 0, 0)
        with pytest.raises(EncounterUnknown):
            store.delete(second.encounter_id)

    def test_a_row_number_is_never_used_again(self, store: Store, target: Path | str) -> None:
        last = an_encounter()
        store.enroll(an_encounter())
        assert store.enroll(last).rows == (2,)
        store.delete(last.encounter_id)
        store.close()
        with Store.open(target) as again:
            assert again.enroll(an_encounter()).rows == (3,)


class TestThreads:
    def test_many_writers_and_readers(self, store: Store) -> None:
        def enrol(number: int) -> str:
            new = an_encounter(f"s{number % 10}", (a_print(1), a_print(2)))
            rows = store.enroll(new, request=a_request()).rows
            assert rows[1] == rows[0] + 1
            assert store.owners(rows)[rows[0]].encounter_id == new.encounter_id
            assert store.counts().prints % 2 == 0
            if number % 4 == 0:
                store.delete(new.encounter_id)
                return ""
            return new.encounter_id

        with ThreadPoolExecutor(12) as pool:
            ids = [i for i in pool.map(enrol, range(120)) if i]
        assert len(ids) == 90
        assert store.counts() == Counts(10, 90, 180)
        assert {p.encounter_id for p in store.templates()} == set(ids)

    def test_close_comes_after_the_writer(self, store: Store) -> None:
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(store.enroll, an_encounter()) for _ in range(40)]
            store.close()
        failed = [f for f in futures if f.exception()]
        assert all(isinstance(f.exception(), StorageUnavailable) for f in failed)
        store.close()
        with pytest.raises(StorageUnavailable, match="closed"):
            store.counts()


class TestInput:
    def test_an_id_is_used_once(self, store: Store) -> None:
        new = an_encounter()
        store.enroll(new)
        with pytest.raises(EncounterExists, match=new.encounter_id):
            store.enroll(new)
        assert store.counts().prints == 1

    def test_values_outside_their_range(self) -> None:
        good, gap = (a_print(1),), MissingFinger(Finger(2), MissingReason.DAMAGED)
        for wrong in (
            lambda: NewEncounter("", new_id(), good),
            lambda: NewEncounter("x" * 129, new_id(), good),
            lambda: NewEncounter("line\nbreak", new_id(), good),
            lambda: NewEncounter("s", "no uuid", good),
            lambda: NewEncounter("s", new_id().replace("-", ""), good),
            lambda: NewEncounter("s", new_id(), ()),
            lambda: NewEncounter("s", new_id(), good, (gap, gap)),
            lambda: NewEncounter("s", new_id(), good, (MissingFinger(Finger(1), MissingReason.DAMAGED),)),
            lambda: NewEncounter("s", new_id(), good, (MissingFinger(Finger(0), MissingReason.DAMAGED),)),
            lambda: a_print(template=b""),
            lambda: NewPrint(Finger(1), Impression(0), b"t", -1),
            lambda: NewPrint(Finger(1), Impression(0), b"t", 1, quality=101),
            lambda: NewPrint(Finger(1), Impression(0), b"t", 1, source_sha256=b"text"),
            lambda: NewPrint(Finger(1), Impression(0), b"t", 1, nfiq2=101, nfiq2_version="2.3.0"),
            lambda: NewPrint(Finger(1), Impression(0), b"t", 1, nfiq2=50),
            lambda: NewPrint(Finger(1), Impression(0), b"t", 1, nfiq2_version="2.3.0"),
            lambda: NewPrint(Finger(1), Impression(0), b"t", 1, nfiq2=50, nfiq2_version="v" * 65),
            lambda: Request("no uuid", b"digest", lambda _: b""),
            lambda: Request(new_id(), b"", lambda _: b""),
        ):
            with pytest.raises(RequestInvalid):
                wrong()

    def test_a_uuid_has_one_form(self) -> None:
        text = "6F9619FF8B86D011B42D00C04FC964FF"
        assert canonical_uuid(text, field="id") == "6f9619ff-8b86-d011-b42d-00c04fc964ff"
