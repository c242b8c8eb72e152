"""What a source refuses: its limits, and an error for each flaw, which says what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from enroll.image import LIMITS as IMAGE
from papilar.errors import SourceFlaw, SourceInvalid


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """What is taken from a source. Chosen; the sizes are bytes."""

    file: int = 2 * IMAGE.pixels  # every pixel an image may have, at 16 bits
    file_held: int = (
        16 << 20
    )  # of a packed tar, whose items hold their bytes; a slap at 1000 ppi has 10 million
    ratio: int = 200  # content to packed bytes; prints pack 2 to 20 times, deflate ends at 1032
    ratio_from: int = 1 << 20  # what is smaller may pack as it likes
    ratio_from_stream: int = 64 << 20  # the same of a whole packed tar
    folder_held: int = 256 << 20  # of one folder of a packed tar, until it is known whether it is one person
    directory: int = 256 << 20  # of a zip: about two million names
    row: int = 1 << 16  # of a manifest in CSV
    row_group: int = 1 << 30  # of one in Parquet
    header: int = 1 << 20  # of a tar's member: a name has 4096 at most


LIMITS = SourceLimits()

REMEDIES: Mapping[SourceFlaw, str] = {
    SourceFlaw.SOURCE_UNKNOWN: "give a folder, a tar, a zip, a manifest in CSV or Parquet, or a URL of one",
    SourceFlaw.SOURCE_EMPTY: "give the folder or the archive that holds the prints",
    SourceFlaw.FILE_MISSING: "bring the file, or take the row out",
    SourceFlaw.FILE_TOO_LARGE: "give one print a file; give a tar of larger ones not packed",
    SourceFlaw.FILE_UNREADABLE: "see to its permissions",
    SourceFlaw.ARCHIVE_DAMAGED: "pack it or copy it again; what was read before is enrolled",
    SourceFlaw.ARCHIVE_PATH_UNSAFE: "pack it again, with names below one folder and without '..'",
    SourceFlaw.ARCHIVE_LINK: "pack the file itself in the place of the link",
    SourceFlaw.ARCHIVE_DEVICE: "put the images themselves into the archive",
    SourceFlaw.ARCHIVE_ENCRYPTED: "pack it again without a password; encrypt the disk instead",
    SourceFlaw.ARCHIVE_METHOD_UNKNOWN: "pack it again with deflate, or as a plain tar",
    SourceFlaw.ARCHIVE_RATIO: "this is how an archive looks that is to fill memory; see where it comes from",
    SourceFlaw.ARCHIVE_ORDER: "pack it folder by folder, sub-folders last, or unpack it and give the folder",
    SourceFlaw.ARCHIVE_NAME_TWICE: "give each file its own name, and one row",
    SourceFlaw.MANIFEST_INVALID: "mend the manifest and run the same command again",
    SourceFlaw.MANIFEST_ORDER: "sort the manifest by person and impression",
    SourceFlaw.ROW_INVALID: "mend the row",
    SourceFlaw.PERSON_UNKNOWN: "give the row a person",
    SourceFlaw.PERSON_CONFLICT: "find out who is who, and give two people two names",
    SourceFlaw.FINGER_INVALID: (
        "give a code from 0 to 10, a name as 'right thumb', or the sheet: card, left slap, right slap, "
        "thumbs; or leave it empty"
    ),
    SourceFlaw.IMPRESSION_INVALID: (
        "give rolled, plain or latent, a code of Table 7 of ANSI/NIST-ITL, or its word; or leave it empty"
    ),
    SourceFlaw.MISSING_INVALID: (
        "name each finger once, as printed or as missing: 'right ring amputated', 'left thumb bandaged'"
    ),
    SourceFlaw.PPI_INVALID: "give the scanner's resolution, as 500; leave it empty where the files state it",
    SourceFlaw.DATE_INVALID: "write dates as 2031-12-31",
    SourceFlaw.NOT_A_FINGERPRINT: "leave it: faces, palms, joints and the like are not enrolled",
    SourceFlaw.FINGER_NOT_FOUND: "look at the slap; take it again, or have the record say which are missing",
    SourceFlaw.SLAP_DOUBTFUL: "look at the slap: which fingers these are is not sure",
    SourceFlaw.FORM_NOT_FOUND: "scan the whole card, at 500 ppi, or cut the prints out by hand",
    SourceFlaw.CELL_EMPTY: "take the print, if the person has the finger",
    SourceFlaw.TRANSACTION_TWICE: "give persons by a manifest, or take one of the two out",
}
"""What to do about each."""


def flawed(why: SourceFlaw, cause: str) -> SourceInvalid:
    """Return the error of a flaw, with its remedy.

    Parameters
    ----------
    why : SourceFlaw
    cause : str
        What was found. Never personal data.
    """
    return SourceInvalid(cause, remedy=REMEDIES[why], why=why)


def safe_path(name: str) -> tuple[str, SourceInvalid | None]:
    """Return a path without its '.' parts, and what is wrong with it as the name of a file below a folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    absolute = name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha())
    if absolute or ".." in parts or "\0" in name or not parts:
        cause = "the name is absolute" if absolute else "the name leads out of the archive, or nowhere"
        return name, flawed(SourceFlaw.ARCHIVE_PATH_UNSAFE, cause)
    return "/".join(parts), None


def hidden(name: str) -> bool:
    """Tell whether a file is passed over: any part of its path begins with a dot."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)
