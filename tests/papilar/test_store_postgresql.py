"""The store on a PostgreSQL server: whose the right to write is, lost connections, errors, settings."""

import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import postgresql as servers
import pytest
from stores import a_print, a_request, an_encounter, lose_the_next_answer, new_id

from papilar.errors import (
    ConfigInvalid,
    GalleryLocked,
    GalleryUnknown,
    StorageFull,
    StorageUnavailable,
)
from papilar.store import Counts, GalleryLock, Request, Store, Written, writer
from papilar.store import engine as engines


@pytest.fixture
def url(postgresql: servers.Server) -> str:
    """An empty place."""
    return postgresql.new_place()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url, create=True, name="hn") as store:
        yield store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for locks than in earnest."""
    monkeypatch.setattr(writer, "_PATIENCE_MS", 100)
    monkeypatch.setitem(engines._SETTINGS, "lock_timeout", "100ms")


class TestTheRightToWrite:
    def test_one_store_at_a_time(self, store: Store, url: str, impatient: None) -> None:
        for create in (False, True):
            with pytest.raises(GalleryLocked, match="another session"):
                Store.open(url, create=create)
        store.enroll(an_encounter())
        store.close()
        with Store.open(url) as again:
            assert (again.hold(), again.counts().prints) == (1, 1)

    def test_galleries_in_two_schemas_of_a_data_base(self, store: Store, postgresql: servers.Server) -> None:
        with Store.open(postgresql.new_place(), create=True, name="gt") as other:
            other.enroll(an_encounter())
            assert (other.counts().prints, store.counts().prints) == (1, 0)

    def test_a_folder_beside_it_is_locked_too(self, url: str, folder: Path) -> None:
        with Store.open(url, folder=folder, create=True) as store:
            assert store.gallery.name == folder.name
            with pytest.raises(GalleryLocked, match="process"):
                GalleryLock(folder)
        GalleryLock(folder).release()
        assert [path.name for path in folder.iterdir()] == ["lock"]

    def test_an_open_that_fails_gives_everything_back(self, store: Store, url: str, folder: Path) -> None:
        store.close()
        with pytest.raises(GalleryUnknown, match="hn, not gt"):
            Store.open(url, folder=folder, name="gt")
        Store.open(url, folder=folder).close()

    def test_it_ends_with_its_process(self, url: str, impatient: None) -> None:
        script = (
            "import sys, time; from papilar.store import Store; store = Store.open(sys.argv[1], create=True);"
            "print('held', flush=True); time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(GalleryLocked):
                Store.open(url)
            holder.send_signal(signal.SIGKILL)
        Store.open(url).close()


class TestLostConnections:
    def test_between_two_changes_nobody_notices(self, store: Store, url: str) -> None:
        store.enroll(an_encounter())
        assert store.hold() == 1
        servers.cut(url)
        assert store.counts().prints == 1
        store.enroll(an_encounter())
        assert (store.hold(), store.counts().prints) == (2, 2)

    def test_within_a_change_nothing_of_it_is_kept(self, store: Store, url: str) -> None:
        def answer(_: Written) -> bytes:
            servers.cut(url)
            return b"never"

        new, request = an_encounter(), Request(new_id(), b"digest", answer)
        with pytest.raises(StorageUnavailable):
            store.enroll(new, request=request)
        assert store.counts() == Counts(0, 0, 0)
        again = Request(request.request_id, b"digest", lambda _: b"response")
        assert store.enroll(new, request=again).response == b"response"
        assert store.hold() == 2

    def test_after_the_commit_the_repeat_gets_the_first_answer(self, store: Store) -> None:
        new, request = an_encounter(), a_request()
        lose_the_next_answer(store)
        with pytest.raises(StorageUnavailable):
            store.enroll(new, request=request)
        assert store.hold() == 2
        assert store.enroll(new, request=request) == Written((), False, b"response", True)
        assert store.counts().encounters == 1

    def test_while_another_store_took_over(self, store: Store, url: str, impatient: None) -> None:
        servers.cut(url)
        with Store.open(url) as other:
            for attempt in (lambda: store.enroll(an_encounter()), store.hold, lambda: store.note({"a": "b"})):
                with pytest.raises(GalleryLocked):
                    attempt()
            other.enroll(an_encounter())
        store.enroll(an_encounter())
        assert (store.hold(), store.counts().prints) == (2, 2)

    def test_under_many_threads(self, store: Store, url: str) -> None:
        """Whatever is cut whenever: what was acknowledged is there once, the rest not at all or once."""

        def enrol(number: int) -> str:
            new, request = an_encounter(f"s{number}", (a_print(1), a_print(2))), a_request()
            while True:
                try:
                    store.enroll(new, request=request)
                except StorageUnavailable:
                    continue
                if number % 10 == 5:
                    servers.cut(url, wait=False)
                return new.encounter_id

        with ThreadPoolExecutor(6) as pool:
            ids = list(pool.map(enrol, range(60)))
        rows = [p.row for p in store.templates()]
        assert store.counts() == Counts(60, 60, 120)
        assert {p.encounter_id for p in store.templates()} == set(ids)
        assert rows == sorted(set(rows))


class TestTheServer:
    def test_it_stops_and_comes_back(self, server: servers.Server) -> None:
        with Store.open(server.new_place(), create=True) as store:
            store.enroll(an_encounter())
            for how in (signal.SIGINT, signal.SIGQUIT):
                server.stop(how)
                for attempt in (store.counts, lambda: store.enroll(an_encounter()), store.hold):
                    with pytest.raises(StorageUnavailable):
                        attempt()
                server.start()
                store.enroll(an_encounter())
            assert (store.counts().prints, store.hold()) == (3, 3)

    def test_it_is_not_there(self, server: servers.Server) -> None:
        url = server.new_place().replace(f"{servers.USER}@", f"{servers.USER}:watchword@")
        with pytest.raises(StorageUnavailable, match="no_such") as caught:
            Store.open(url.replace("/postgres?", "/no_such?"))
        server.stop()
        with pytest.raises(StorageUnavailable) as other:
            Store.open(url, create=True)
        for error in (caught.value, other.value):
            assert "watchword" not in "".join(traceback.format_exception(error))

    @pytest.fixture
    def server(self, postgresql: servers.Server) -> Iterator[servers.Server]:
        """The server, for tests that stop it."""
        yield postgresql
        postgresql.stop()
        postgresql.start()


class TestErrors:
    @pytest.mark.parametrize(("state", "kind"), [("53100", StorageFull), ("40001", StorageUnavailable)])
    def test_a_full_disk_keeps_what_was_and_nothing_half(
        self, store: Store, url: str, state: str, kind: type[Exception]
    ) -> None:
        kept = an_encounter()
        store.enroll(kept)
        servers.query(
            url,
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION 'out of space' USING ERRCODE = '{state}'; END $$",
        )
        servers.query(url, "CREATE TRIGGER full_disk BEFORE INSERT ON image EXECUTE FUNCTION fail()")
        new, request = an_encounter("big", (a_print(1), a_print(2, image=b"picture"))), a_request()
        with pytest.raises(kind, match="out of space"):
            store.enroll(new, request=request)
        assert store.counts() == Counts(1, 1, 1)
        assert store.replay(request.request_id, request.digest) is None
        servers.query(url, "DROP TRIGGER full_disk ON image")
        assert store.enroll(new, request=request).rows > (1,)
        assert store.hold() == 1

    def test_what_the_server_quotes_is_not_shown(self, store: Store, url: str) -> None:
        who = "-".join(["who", "it", "is"])
        servers.query(url, "CREATE UNIQUE INDEX once ON encounter (subject_id)")
        store.enroll(an_encounter(who))
        with pytest.raises(StorageUnavailable, match="once") as caught:
            store.enroll(an_encounter(who))
        assert who not in "".join(traceback.format_exception(caught.value))

    def test_a_lock_of_others_that_does_not_end(self, url: str, impatient: None) -> None:
        with Store.open(url, create=True) as store:
            with servers.psycopg.connect(url) as other:
                other.execute("LOCK TABLE print")
                for attempt in (lambda: store.enroll(an_encounter()), store.counts):
                    with pytest.raises(StorageUnavailable, match="lock timeout"):
                        attempt()
            store.enroll(an_encounter())
            assert store.counts().prints == 1

    @pytest.mark.parametrize(
        "text", ["postgresql://host:port/x", "://", "mysql://watchword@host/x", "ftp://watchword"]
    )
    def test_a_url_that_is_none(self, text: str, folder: Path) -> None:
        with pytest.raises(ConfigInvalid) as caught:
            Store.open(text, folder=folder, create=True)
        assert "watchword" not in str(caught.value)

    def test_without_the_driver(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(ConfigInvalid, match="driver"):
            Store.open(url)


class TestSettings:
    def test_every_session_has_them(self, url: str) -> None:
        servers.query(url, "ALTER ROLE papilar SET synchronous_commit = off")
        with Store.open(url, create=True) as store:
            for session in (store._read, store._write):
                assert _shown(session, "synchronous_commit") == "on"
                assert _shown(session, "transaction_isolation") == "repeatable read"
                assert _shown(session, "statement_timeout") == "1min"
        servers.query(url, "ALTER ROLE papilar SET synchronous_commit = remote_apply")
        with Store.open(url) as store:
            assert _shown(store._write, "synchronous_commit") == "remote_apply"
            assert _shown(store._read, "transaction_read_only") == "on"
            assert _shown(store._write, "transaction_read_only") == "off"
        servers.query(url, "ALTER ROLE papilar RESET synchronous_commit")

    def test_readers_see_one_moment(self, store: Store) -> None:
        new = an_encounter(prints=(a_print(1), a_print(2)))
        with store._read() as connection:
            before = connection.exec_driver_sql("SELECT count(*) FROM encounter").scalar()
            store.enroll(new)
            assert connection.exec_driver_sql("SELECT count(*) FROM print").scalar() == before == 0


def _shown(session: Callable[[], object], name: str) -> object:
    with session() as connection:  # type: ignore[attr-defined]
        return connection.exec_driver_sql(f"SHOW {name}").scalar()
