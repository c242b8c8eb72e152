"""Each country's rules, as its law: who may ask, what for, which file, which peer. No rule permits: refused.

A law is three files: its terms (`terms`), its rules in Cedar (`rules`), its own examples (`examples`). `Law`
reads them and decides. `trial` puts a law to its examples and says what would alter a decision. `bundle` is
the signed file that travels, `installed` the laws that a node keeps, `quota` how much may be asked in a day.
"""

from papilar.policy.bundle import Bundle, LawText, read_bytes, read_text
from papilar.policy.decision import Decision, Ruling, Verdict
from papilar.policy.installed import InstalledLaw, history, install, open_law
from papilar.policy.law import Law
from papilar.policy.quota import Admission, Quota, admit
from papilar.policy.request import (
    Action,
    Direction,
    File,
    LegalBasis,
    OffenceClass,
    PolicyRequest,
    Purpose,
    SearchType,
)
from papilar.policy.trial import Change, Outcome, Trial, changes, try_law

__all__ = [
    "Action",
    "Admission",
    "Bundle",
    "Change",
    "Decision",
    "Direction",
    "File",
    "InstalledLaw",
    "Law",
    "LawText",
    "LegalBasis",
    "OffenceClass",
    "Outcome",
    "PolicyRequest",
    "Purpose",
    "Quota",
    "Ruling",
    "SearchType",
    "Trial",
    "Verdict",
    "admit",
    "changes",
    "history",
    "install",
    "open_law",
    "read_bytes",
    "read_text",
    "try_law",
]
