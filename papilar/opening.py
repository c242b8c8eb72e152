"""A node's gallery, made of its store: opened here or elsewhere, and kept to what the store has."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from matcher.codecs import decode
from matcher.cylinders import Prepared, prepare
from matcher.gallery import Gallery
from matcher.template import Template
from papilar.store import Store

_NOTHING = Template.of(np.zeros((0, 2)), [], [], [], size=(1, 1))


class Opening(Protocol):
    """Opens a gallery for as long as it is needed: `open_here`, or that of a cluster."""

    def __call__(
        self, folder: Path, store: Store, generation: int | None = None
    ) -> AbstractContextManager[Any]:
        """Open the gallery of all prints of a store, its segments in a folder.

        With the number of a generation that is being extracted anew, it is empty at first.
        """


@contextmanager
def open_here(folder: Path, store: Store, generation: int | None = None) -> Iterator[Gallery]:
    """Open a gallery in this process; as `Opening`."""
    for part in folder.glob("*-of-*"):  # of a cluster, which had this gallery before
        shutil.rmtree(part)

    def restore(row: int) -> Prepared:
        found = next(store.prints([row], generation=generation), None)
        return prepare(_NOTHING if found is None else decode(found.template)[0])

    alive = store.live_rows() if generation is None else np.zeros(0, np.int64)
    yield Gallery(folder, alive, restore=restore)


def follow(gallery: Any, store: Store, each: Callable[[], None]) -> None:
    """Make a gallery hold what its store has, no less and no more; `each` is called for each row added."""
    alive = store.live_rows()
    gallery.hide(np.setdiff1d(gallery.rows, alive).tolist())
    for one in store.prints(gallery.missing(alive)):
        gallery.add(one.row, prepare(decode(one.template)[0]), one.place)
        each()
