"""Whoever imports this has all that a node needs loaded, by letting one work: see `forked`."""

from pathlib import Path
from tempfile import TemporaryDirectory

from nodes import a_person, seen_again, white

from papilar.node import Node
from papilar.requests import Enrollment, PrintInput

with TemporaryDirectory() as _folder, Node(Path(_folder) / "gallery", create=True) as _node:
    _node.enroll(Enrollment((PrintInput(image=white()),)))
    _node.enroll(a_person(1))
    _node._gallery.seal()
    _node.identify([seen_again(1)])
