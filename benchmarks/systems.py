"""Matchers behind one small protocol, so that all of them stand in one table from one run.

To add one: write an adapter with the members of `System` and name it in `SYSTEMS`, or, without a line of
Python here, give `python -m benchmarks run` a command (see `CommandSystem`).
"""

import math
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from benchmarks.partial import part_of
from enroll.image import encode_png, read_image, resample
from enroll.pipeline import extract
from matcher.calibration import shipped
from matcher.codecs import decode, encode
from matcher.compare import Evidence, evidence, prepare, score
from matcher.cylinders import Prepared
from matcher.errors import InvalidInput
from matcher.template import Template


class System(Protocol):
    """A matcher under measurement: files in, scores out."""

    @property
    def name(self) -> str:
        """Name in the results; also a folder's name."""

    @property
    def concurrent(self) -> bool:
        """Whether several threads may call it at once."""

    @property
    def in_process(self) -> bool:
        """Whether its work is done in the calling thread: then CPU time is reported, else time passed."""

    def about(self) -> Mapping[str, str]:
        """Return versions and settings that a reader needs to repeat the run."""

    def extract(self, data: bytes, *, ppi: float | None) -> Any:
        """Turn an image file into what is compared; None where the print fails to enrol.

        Parameters
        ----------
        data : bytes
            The whole file.
        ppi : float or None
            Pixels per inch; None takes the file's own.

        Raises
        ------
        InvalidInput
            The file cannot be read; counted as a failure to enrol, save for `ResolutionUnknown`.
        """

    def compare(self, probe: Any, reference: Any) -> float:
        """Score two extracted prints; higher means more alike."""

    def close(self) -> None:
        """Release processes and files."""


@runtime_checkable
class EvidentSystem(System, Protocol):
    """A matcher whose scores are calibrated, and that can tell what they were calibrated from."""

    def evidence(self, probe: Any, reference: Any) -> Evidence:
        """Return what speaks for and against one finger; not timed."""


def _through_iso(template: Template) -> Prepared:
    return prepare(decode(encode(template, "iso-19794-2:2005"))[0])


class Papilar:
    """The project's own extraction and comparison, in their defaults; scores are log10 likelihood ratios.

    Cylinders are computed once a print, as a gallery keeps them: their time counts in extraction.
    """

    name = "papilar"
    concurrent = True
    in_process = True
    ready: Callable[[Template], Prepared] = staticmethod(prepare)

    def about(self) -> Mapping[str, str]:
        """Return the installed version and the calibration of its scores."""
        return {"papilar": _version("papilar"), "calibration": shipped().id}

    def extract(self, data: bytes, *, ppi: float | None) -> Any:
        """Extract and prepare; None where the pipeline rejects the print."""
        extraction = extract(read_image(data, ppi=ppi))
        return None if extraction.rejected else self.ready(extraction.template)

    def compare(self, probe: Any, reference: Any) -> float:
        """Return the log10 likelihood ratio."""
        return score(probe, reference)

    def evidence(self, probe: Any, reference: Any) -> Evidence:
        """Return what the calibration is fitted to."""
        return evidence(probe, reference)

    def close(self) -> None:
        """Nothing is held."""


class PapilarIso(Papilar):
    """The same through records of ISO/IEC 19794-2:2005: minutiae alone, no ridge description."""

    name = "papilar-iso"
    ready = staticmethod(_through_iso)


class Parted(NamedTuple):
    """A print as a reference, and a part of it as a probe."""

    whole: Prepared
    part: Prepared


class PapilarPart(Papilar):
    """Parts of prints, as probes, against whole ones (see `benchmarks.partial`)."""

    name = "papilar-part"

    def extract(self, data: bytes, *, ppi: float | None) -> Any:
        """Extract and prepare the whole and a part of it; None where the pipeline rejects either."""
        image = read_image(data, ppi=ppi)
        extraction = extract(image)
        part = None if extraction.rejected else part_of(image, extraction.template)
        return None if part is None else Parted(self.ready(extraction.template), self.ready(part))

    def compare(self, probe: Any, reference: Any) -> float:
        """Return the log10 likelihood ratio of the probe's part and the whole reference."""
        return score(probe.part, reference.whole)

    def evidence(self, probe: Any, reference: Any) -> Evidence:
        """Return what the calibration is fitted to."""
        return evidence(probe.part, reference.whole)


class PapilarPartIso(PapilarPart):
    """The same through records of ISO/IEC 19794-2:2005."""

    name = "papilar-part-iso"
    ready = staticmethod(_through_iso)


class Nbis:
    """NIST's mindtct and bozorth3 through `nbis-py`, in their defaults: all minutiae, no quality threshold.

    mindtct reads the image at 500 ppi. bozorth3 is not symmetric: the score is the better of both
    directions, and the time of a comparison that of both. A print fails to enrol where mindtct finds no
    minutia at all.
    """

    name = "nbis"
    concurrent = False  # the C code keeps its state in globals
    in_process = True

    def __init__(self) -> None:
        try:
            import nbis
        except ImportError as error:
            raise InvalidInput(
                "system nbis is not installed", remedy="pip install 'papilar[benchmarks]'"
            ) from error
        self._error = nbis.NbisError
        settings = nbis.NbisExtractorSettings(
            min_quality=0.0, get_center=False, check_fingerprint=False, compute_nfiq2=False, ppi=500.0
        )
        self._extractor = nbis.new_nbis_extractor(settings)

    def about(self) -> Mapping[str, str]:
        """Return the installed version."""
        return {"nbis-py": _version("nbis-py")}

    def extract(self, data: bytes, *, ppi: float | None) -> Any:
        """Run mindtct."""
        try:
            minutiae = self._extractor.extract_minutiae(encode_png(resample(read_image(data, ppi=ppi))))
        except self._error:
            return None
        return minutiae if minutiae.get() else None

    def load(self, record: bytes) -> Any:
        """Read the minutiae of a record as nbis-py writes them."""
        return self._extractor.load_iso_19794_2_2005(record)

    def compare(self, probe: Any, reference: Any) -> float:
        """Run bozorth3 both ways."""
        return float(max(probe.compare(reference), reference.compare(probe)))

    def close(self) -> None:
        """Nothing is held."""


class CommandSystem:
    r"""Any matcher that runs as a command.

    The command is started once. It reads lines of two file paths, separated by a tab, from its standard
    input, and answers each at once (flushed) with a line that holds one number, the score, higher meaning
    more alike. It ends when its input does. The files are 8-bit grey PNG images at 500 ppi or, with
    `templates`, ISO/IEC 19794-2:2005 records of this project's own minutiae, so that a matcher can be
    measured apart from its extractor. A matcher that cannot read a file answers `-inf`. This is a whole
    one, in Python::

        import sys

        for line in sys.stdin:
            probe, reference = line.rstrip("\n").split("\t")
            print(score(probe, reference), flush=True)

    Parameters
    ----------
    name : str
        Name in the results.
    command : str
        Command line, split as a POSIX shell would; no shell runs it.
    templates : bool
        Give the command templates instead of images.
    """

    concurrent = False
    in_process = False

    def __init__(self, name: str, command: str, *, templates: bool = False) -> None:
        self.name = name
        self._command = command
        self._templates = templates
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark-")
        self._files = 0
        self._process = self._start(shlex.split(command))

    def about(self) -> Mapping[str, str]:
        """Return the command line and what it reads."""
        return {"command": self._command, "reads": "iso-19794-2:2005" if self._templates else "png"}

    def extract(self, data: bytes, *, ppi: float | None) -> Any:
        """Write the file that the command will read, and return its path."""
        content = _template(data, ppi) if self._templates else _image(data, ppi)
        if content is None:
            return None
        self._files += 1
        path = Path(self._folder.name) / f"{self._files}{'.fmr' if self._templates else '.png'}"
        path.write_bytes(content)
        return path

    def compare(self, probe: Any, reference: Any) -> float:
        """Ask the command for one score.

        Raises
        ------
        InvalidInput
            The command has ended, or its answer is no number.
        """
        try:
            self._process.stdin.write(f"{probe}\t{reference}\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            answer = self._process.stdout.readline()  # type: ignore[union-attr]
            score = float(answer)
        except (OSError, ValueError) as error:
            raise self._failure("no score for a pair") from error
        if math.isnan(score):
            raise self._failure("a score that is not a number")
        return score

    def close(self) -> None:
        """End the command and delete its files."""
        with self._process:
            self._process.stdin.close()  # type: ignore[union-attr]
            self._process.terminate()
        self._folder.cleanup()

    def _start(self, arguments: list[str]) -> "subprocess.Popen[str]":
        try:
            return subprocess.Popen(  # noqa: S603  the caller's own command, no shell
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except (OSError, IndexError) as error:
            self._folder.cleanup()
            raise InvalidInput(
                f"cannot start {self._command!r} ({error})", remedy="check --command"
            ) from error

    def _failure(self, cause: str) -> InvalidInput:
        code = self._process.poll()
        state = "runs still" if code is None else f"ended with {code}"
        return InvalidInput(
            f"{cause} from {self._command!r}, which {state}",
            remedy="it must answer each line with one number",
        )


SYSTEMS: dict[str, Callable[[], System]] = {
    "papilar": Papilar,
    "papilar-iso": PapilarIso,
    "papilar-part": PapilarPart,
    "papilar-part-iso": PapilarPartIso,
    "nbis": Nbis,
}
"""The systems that `--systems` can name."""


def make(names: list[str], commands: Mapping[str, Callable[[], System]] | None = None) -> list[System]:
    """Build the systems of these names.

    Parameters
    ----------
    names : list of str
    commands : mapping, optional
        Makers beside those of `SYSTEMS`.

    Raises
    ------
    InvalidInput
        A name is unknown or given twice, or a system is not installed.
    """
    makers = SYSTEMS | dict(commands or {})
    unknown = [name for name in names if name not in makers]
    if unknown or not names or len(set(names)) < len(names):
        raise InvalidInput(
            f"systems {', '.join(names) or 'none'}", remedy=f"name each once, of {', '.join(sorted(makers))}"
        )
    return [makers[name]() for name in names]


def parse_command(text: str) -> tuple[str, Callable[[], System]]:
    """Read a command given as `NAME=COMMAND`, or `NAME:iso=COMMAND` for one that reads templates.

    Raises
    ------
    InvalidInput
        There is no name, no command, or the name cannot be a folder's.
    """
    head, _, command = text.partition("=")
    name, _, reads = head.partition(":")
    if not (command.strip() and name.replace("-", "").replace("_", "").isalnum() and reads in ("", "iso")):
        raise InvalidInput(
            f"command {text!r}",
            remedy="give NAME=COMMAND or NAME:iso=COMMAND, the name of letters and digits",
        )
    return name, lambda: CommandSystem(name, command, templates=reads == "iso")


def _image(data: bytes, ppi: float | None) -> bytes | None:
    return encode_png(resample(read_image(data, ppi=ppi)))


def _template(data: bytes, ppi: float | None) -> bytes | None:
    extraction = extract(read_image(data, ppi=ppi))
    return None if extraction.rejected else encode(extraction.template, "iso-19794-2:2005")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
