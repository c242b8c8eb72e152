"""A gallery's store read beside the node that works on it: what takes hours and changes nothing."""

from papilar.store import rows as sql
from papilar.store.anew import AnewRows
from papilar.store.originals import OriginalRows
from papilar.store.place import Placed
from papilar.store.store import facts_of
from papilar.store.values import GalleryFacts


class Beside(Placed):
    """A gallery's store, for reading alone.

    Raises
    ------
    StorageUnavailable, GalleryCorrupt
        From any method.
    """

    @property
    def gallery(self) -> GalleryFacts:
        """What is known of the gallery as a whole."""
        with self._read() as connection:
            return facts_of(sql.read_meta(connection))

    @property
    def originals(self) -> OriginalRows:
        """Which originals prints refer to."""
        return OriginalRows(self._read, self._read)

    @property
    def anew(self) -> AnewRows:
        """Prints extracted anew."""
        return AnewRows(self._read, self._read)
