"""A node on the machines of a Ray cluster: prints are read there, and the gallery lies there in parts.

`connection` is the way to the cluster, `reading` reads prints on it, `gallery` searches on it.
"""

from papilar.cluster.connection import LOCAL
from papilar.cluster.reading import RayReaders

__all__ = ["LOCAL", "RayReaders"]
