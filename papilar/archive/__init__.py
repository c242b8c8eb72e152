"""National archives: what holds prints, and the run that enrols them for days, unattended.

`item` is the seam between the two. `sources` yield items; `runner` puts them through `workers` into a gallery
or a node. `journal` remembers what became of each, `quarantine` keeps what did not go in, and `receipt` says
it all.
"""
