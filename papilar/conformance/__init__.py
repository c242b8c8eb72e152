"""The conformance kit: whether a node of another country, in whatever language, does what the contract says.

It knows the contract (`proto/papilar/api/peer/v1`), a socket, and certificates of a country of its own, and
nothing of how a node is made. `cases` has what is tried; `kit` makes the certificates for it.
"""
