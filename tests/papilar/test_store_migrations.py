"""The versions of the store's tables: what they add up to, and how an older gallery gets there."""

import importlib
import logging
import pkgutil
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from nodes import seen_again
from sqlalchemy import create_engine
from stores import FILE, a_print, an_encounter, new_id, tamper
from tables import Remembered

import papilar.store
from matcher.errors import GalleryCorrupt, GalleryTooNew, PapilarError
from papilar.errors import EncounterErased
from papilar.node import Node
from papilar.store import MissingFinger, MissingReason, Store, migrations, schema

RELEASED = Path(__file__).resolve().parents[1] / "data" / "store"
"""Stores as released versions of Papilar made them, of templates that are drawn from random numbers."""

NEXT = migrations.newest() + 1

for module in pkgutil.iter_modules(papilar.store.__path__, "papilar.store."):
    importlib.import_module(module.name)  # each may have tables


@pytest.fixture(autouse=True)
def anew(remembered: Remembered, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the versions themselves make every store."""
    monkeypatch.setattr(migrations, "upgrade", remembered.anew)


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of versions in place of the real one, with the same in it."""
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrations, "_scripts", lambda: ScriptDirectory(str(folder)))
    return folder / "versions"


def add_version(folder: Path, *, also: str = "pass") -> None:
    """Add one that makes a table and does something more."""
    (folder / f"{NEXT:04}_next.py").write_text(
        f"import sqlalchemy as sa\n"
        f"revision, down_revision = '{NEXT:04}', '{NEXT - 1:04}'\n"
        f"def upgrade(op):\n"
        f"    op.create_table('next', sa.Column('key', sa.Integer, primary_key=True))\n"
        f"    op.add_column('subject', sa.Column('next', sa.Integer))\n"
        f"    {also}\n"
    )


class TestTables:
    def test_the_versions_add_up_to_the_tables_of_the_code(self, store: Store) -> None:
        with store._engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_server_default": True})
            assert compare_metadata(context, schema.metadata) == []

    def test_and_in_sqlite_to_the_letter(self, file_store: Store, folder: Path, tmp_path: Path) -> None:
        engine = create_engine(f"sqlite:///{tmp_path}/made.db")
        schema.metadata.create_all(engine)
        engine.dispose()
        assert _statements(folder / FILE) - _statements(tmp_path / "made.db") == {
            "CREATE TABLE alembic_version ( version_num VARCHAR(32) NOT NULL,"
            " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num) )"
        }
        assert _statements(tmp_path / "made.db") <= _statements(folder / FILE)

    def test_versions_are_one_line_of_numbers(self) -> None:
        scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
        found = [step.revision for step in scripts.walk_revisions()][::-1]
        assert found == [f"{number:04}" for number in range(1, NEXT)]
        assert all(Path(scripts.get_revision(name).path).name.startswith(name) for name in found)


def _statements(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {" ".join(statement.split()) for (statement,) in found}


class TestOlderGalleries:
    def test_a_file_from_before_alembic(self, folder: Path) -> None:
        shutil.copytree(RELEASED / "version-1", folder)
        kept, erased = (f"00000000-0000-4000-8000-{end:012x}" for end in (1, 2))
        with Node(folder, name="old") as node:
            assert [c.subject for c in node.identify([seen_again(2)]).candidates if c.score > 3] == ["kept"]
        with Store.open(folder) as store:
            assert store.gallery.schema_version == migrations.newest()
            found = store.encounter(kept)
            assert found.missing == (MissingFinger(found.missing[0].finger, MissingReason.BANDAGED),)
            assert (found.created < datetime.now(UTC), [p.row for p in found.prints]) == (True, [1, 2])
            assert store.replay("00000000-0000-4000-8000-00000000000a", b"digest")
            with pytest.raises(EncounterErased):
                store.replay("00000000-0000-4000-8000-00000000000b", b"digest")
            assert erased not in {p.encounter_id for p in store.templates()}
            assert store.enroll(an_encounter()).rows == (4,), "a number was used again"

    @pytest.mark.parametrize("noted", ["DELETE FROM alembic_version", "SELECT 1"])
    def test_the_version_before(self, store: Store, target: Path | str, versions: Path, noted: str) -> None:
        new = an_encounter(prints=(a_print(image=b"picture"),))
        store.enroll(new)
        store.close()
        tamper(target, noted)
        add_version(versions)
        with Store.open(target) as again:
            assert again.gallery.schema_version == NEXT
            assert again.encounter(new.encounter_id, images=True).prints[0].image == b"picture"
            assert again.gallery.facts == store.gallery.facts
        tamper(target, "INSERT INTO next (key) VALUES (1)")
        (versions / f"{NEXT:04}_next.py").unlink()
        with pytest.raises(GalleryTooNew, match=str(NEXT)):
            Store.open(target)

    def test_a_version_that_fails_leaves_the_old_one_whole(
        self, store: Store, target: Path | str, versions: Path
    ) -> None:
        store.enroll(an_encounter())
        store.close()
        add_version(versions, also="op.execute('INSERT INTO subject (created) VALUES (NULL)')")
        with pytest.raises(PapilarError):
            Store.open(target)
        (versions / f"{NEXT:04}_next.py").unlink()
        with Store.open(target) as again:
            assert again.gallery.schema_version == NEXT - 1
            again.enroll(an_encounter())
            assert again.counts().prints == 2
        add_version(versions)
        Store.open(target).close()  # nothing of the first attempt is in its way

    def test_two_versions_noted(self, store: Store, target: Path | str) -> None:
        store.close()
        tamper(target, "UPDATE alembic_version SET version_num = '0099'")
        with pytest.raises(GalleryCorrupt, match="two versions"):
            Store.open(target)

    def test_nothing_is_printed_and_no_log_set_up(
        self, target: Path | str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        before = (logging.root.level, list(logging.root.handlers), logging.getLogger("alembic").handlers)
        with Store.open(target, create=True) as store:
            store.enroll(an_encounter(new_id()))
        assert capfd.readouterr() == ("", "")
        after = (logging.root.level, list(logging.root.handlers), logging.getLogger("alembic").handlers)
        assert after == before
