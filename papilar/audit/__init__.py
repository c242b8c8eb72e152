"""The tamper-evident log: an append-only Merkle tree of everything asked, answered, refused and erased.

`entry` is what is written, `merkle` the tree, `log` the log itself. `check` finds what was changed. `heads`
signs the tree's heads and keeps those of other countries. `report` answers an authority and a citizen. The
log holds no biometric data and no name: persons are pseudonyms and keyed hashes.
"""
