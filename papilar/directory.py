"""The store, as a search sees it: whose print a row is, and which rows an encounter has."""

from collections.abc import Collection, Mapping

from matcher.search import Owner
from papilar.store import Store


class Directory:
    """Answers `matcher.search` out of a store.

    Parameters
    ----------
    store : Store
        Open as long as searches run.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def owners(self, rows: Collection[int]) -> Mapping[int, Owner]:
        """Return the owner of each row that exists."""
        return {
            row: Owner(o.subject_id, o.encounter_id, o.finger) for row, o in self._store.owners(rows).items()
        }

    def rows_of(self, encounters: Collection[str]) -> Collection[int]:
        """Return the rows of all prints of these encounters."""
        return self._store.rows_of(encounters)
