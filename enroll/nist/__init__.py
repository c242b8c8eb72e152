"""ANSI/NIST-ITL transactions in the traditional encoding: read, written, checked.

`decode` and `encode` are bytes to records and back, `pictures` and `templates` what the rest of the project
takes from them, `build` makes a transaction of prints, `check` holds one against a profile.

**Why a codec of our own.** The library `nistitl` 0.6 was to be the reader. It finds the same fields in the
reference transactions, but gives none of the sixteen back byte for byte: it writes lengths and designations
anew ("00" becomes "0"). Of a record of a type that it does not list, or of damaged digits, it raises
`KeyError`, `ValueError` or `TypeError` beside its own error, and it copies the rest of the file for every
record. A transaction may be evidence: what nobody changed must stay the same bytes, and what is damaged must
be refused by name. So `nistitl` is the oracle of the tests, and the service does not import it.
"""

from enroll.nist.build import Envelope, SentPrint, build
from enroll.nist.codec import Transaction, decode, encode
from enroll.nist.codes import Content
from enroll.nist.minutiae import Features, Form, features, templates
from enroll.nist.pictures import PICTURE_TYPES, Missing, Picture, Segment, picture, pictures
from enroll.nist.profile import Profile, check, load_profile, profile_names
from enroll.nist.record import Field, Record
from enroll.nist.rules import Fault

__all__ = [
    "PICTURE_TYPES",
    "Content",
    "Envelope",
    "Fault",
    "Features",
    "Field",
    "Form",
    "Missing",
    "Picture",
    "Profile",
    "Record",
    "Segment",
    "SentPrint",
    "Transaction",
    "build",
    "check",
    "decode",
    "encode",
    "features",
    "load_profile",
    "picture",
    "pictures",
    "profile_names",
    "templates",
]
