"""What fuzzing begins with: small files of every format, made here; nothing of a person.

Signatures are of an authority that is made anew in each process.
"""

import bz2
import csv
import gzip
import io
import lzma
import tarfile
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from enroll import nist
from enroll.image import encode_png
from matcher.codecs import CODECS, encode
from papilar import pki
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.archive.item import Line, Result
from papilar.archive.receipt import ReceiptWriter
from papilar.exchange.seal import stamp
from papilar.identity import Identity
from papilar.policy import LawText
from papilar.policy.bundle import Bundle
from papilar.signing import Signature, Signer
from tests.enroll.nist import made
from tests.minutiae import finger, ridge_description

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


# ---- images, templates, transactions


def picture(kind: str, *, mode: str = "L", **options: object) -> bytes:
    """Return waves of 80 by 96 pixels at 500 ppi as a file."""
    out = io.BytesIO()
    Image.fromarray(made.waves().pixels).convert(mode).save(out, kind, dpi=(500, 500), **options)
    return out.getvalue()


def images() -> list[bytes]:
    """Return an image of every format that is read but WSQ, most in several forms."""
    grey16 = io.BytesIO()
    Image.fromarray(made.waves().pixels.astype(np.uint16) * 257).save(grey16, "PNG")
    return [
        *(picture("PNG", mode=mode) for mode in ("1", "L", "P", "LA", "RGB", "RGBA")),
        *(picture("BMP", mode=mode) for mode in ("1", "L", "P", "RGB")),
        *(picture("TIFF", mode=mode) for mode in ("1", "L", "RGB", "CMYK")),
        *(picture("TIFF", compression=each) for each in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        picture("TIFF", mode="1", compression="group4"),
        *(picture("JPEG", progressive=each) for each in (False, True)),
        picture("JPEG", mode="RGB", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
        picture("JPEG2000"),
        picture("JPEG2000", no_jp2=True),
        picture("JPEG2000", mode="RGB"),
        *(picture("PPM", mode=mode) for mode in ("1", "L", "RGB")),
        b"P2\n64 64\n255\n" + b"7 " * 64 * 64,
        grey16.getvalue(),
    ]


def wsqs() -> list[bytes]:
    """Return WSQ files: one as encoded, one with more comments, one with padding behind it."""
    data = picture("WSQ")
    comment = b"\xff\xa8\0\x1aNIST_COM 2\nPPI 500\nX 1\n\n"
    return [data, data[:2] + comment + data[2:], data + bytes(3)]


def records() -> list[bytes]:
    """Return a template's record of every format."""
    views = [made.template(), finger(1, 12), replace(finger(2, 9), ridges=ridge_description(2))]
    stored = sorted((ROOT / "tests" / "data" / "templates").iterdir())
    written = [encode(views, name) for name, codec in CODECS.items() if codec.write]
    return [*written, *(path.read_bytes() for path in stored)]


def descriptions() -> list[bytes]:
    """Return ridge descriptions."""
    return [ridge_description(seed) for seed in range(3)]


def transactions() -> list[bytes]:
    """Return transactions with records of Types 2, 4, 9, 13, 14 and 15."""
    card = made.card()
    binary = [made.type_4(picture("WSQ"), compression=1), made.type_4(made.waves().pixels.tobytes())]
    text = [made.type_9({5: "01", 6: "R", 9: "0001"}), made.type_9({12: (("000500060",),), 302: "X"})]
    latent = nist.SentPrint(20, 4, made.SENT.date(), image=made.waves())
    more = [(latent,), (made.sent(25, 10),), (made.sent(2, template=made.template()),)]
    built = [nist.build(made.ENVELOPE, prints) for prints in more]
    whole = [card, made.with_record(card, *binary), made.with_record(card, *text), *built]
    return [nist.encode(each) for each in whole]


# ---- archives, manifests, receipts


def archives() -> list[bytes]:
    """Return archives: tar, packed tars, zips, and a transaction on its own."""
    content = {"7/1.png": encode_png(made.waves()), "7/2.txt": b"x" * 9, "b_1.png": b"no image"}
    content |= {f"{'long' * 40}/c.dat": nist.encode(made.card())[:2000], "d/e.tmpl": records()[0]}
    plain = _tar(content, tarfile.PAX_FORMAT)
    small = _tar({"a/1.png": b"1", "a/2.png": b"2"}, tarfile.GNU_FORMAT)
    packed = [pack(small) for pack in (gzip.compress, bz2.compress, lzma.compress)]
    zips = [_zip(content, method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    return [plain, _tar(content, tarfile.GNU_FORMAT), small, *packed, *zips, nist.encode(made.card())]


def _tar(content: dict[str, bytes], form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as packed:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _zip(content: dict[str, bytes], method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return out.getvalue()


def manifests() -> list[bytes]:
    """Return the same table in CSV, by both separators, and in Parquet."""
    heads = ("path", "person", "finger", "impression", "ppi", "category", "retention_date", "birth_date")
    rows = [
        ("a/1.png", "P-1", "1", "2", "500", "CONVICTED", "2031-12-31", "1980-02-29"),
        ("a/2.png", "P-2", "left thumb", "1", "", "", "", ""),
        ("../x", "P-2", "11", "1", "5e9", "", "2031-13-31", "1980-02-30"),
    ]
    written = []
    for separator in ",;":
        out = io.StringIO()
        csv.writer(out, delimiter=separator).writerows([heads, *rows])
        written.append(out.getvalue().encode("utf-8-sig"))
    table = pyarrow.table(dict(zip(heads, map(list, zip(*rows, strict=True)), strict=True)))
    for packing in ("none", "snappy"):
        sink = io.BytesIO()
        pyarrow.parquet.write_table(table, sink, compression=packing)
        written.append(sink.getvalue())
    return written


def receipts() -> list[bytes]:
    """Return receipts: whole, signed, of a run that was stopped."""
    lines = [
        Line("a.png", Result.ENROLLED, "s", "e", 70, 40, warnings=("dark",), sha256="ab" * 32),
        Line("b.png", Result.FAILED, reason="IMAGE_EMPTY", message="no bytes; send the whole file"),
    ]
    made_of = [(_signer("seal"), ""), (None, ""), (None, "STOPPED")]
    with TemporaryDirectory() as folder:
        return [_receipt(Path(folder) / "r", lines, signer, stopped) for signer, stopped in made_of]


def _receipt(path: Path, lines: list[Line], signer: Signer | None, stopped: str) -> bytes:
    with ReceiptWriter(path, source="a", target="g", begun=AT, options={"ppi": 500}, signer=signer) as to:
        for line in lines:
            to.add(line)
        to.end(AT + timedelta(hours=1), stopped=stopped)
    return path.read_bytes()


# ---- what is signed


@cache
def authority() -> tuple[Path, TemporaryDirectory[str]]:
    """Make a country's authority, a seal and a law key of it, and a trust list; all goes with the process."""
    kept = TemporaryDirectory(prefix="papilar-fuzz-")
    folder = Path(kept.name)
    pki.init(folder / "SLV", "SLV", at=AT - timedelta(days=1))
    for use in ("seal", "law"):
        pki.issue(folder / "SLV", Identity.parse(f"spiffe://slv.papilar/{use}/x"), at=AT - timedelta(days=1))
    (folder / "trust" / "SLV").mkdir(parents=True)
    (folder / "trust" / "SLV" / "ca.pem").write_bytes((folder / "SLV" / "ca.pem").read_bytes())
    return folder, kept


@cache
def _signer(use: str) -> Signer:
    (certificate,) = (authority()[0] / "SLV").glob(f"{use}-x*.pem")
    return Signer.load(certificate, certificate.with_suffix(".key"))


def bundle(text: LawText) -> bytes:
    """Return the signed bundle of a law, sound or not."""
    return Bundle.sign(text, _signer("law")).pack()


def laws() -> list[bytes]:
    """Return our example laws, each as a bundle and as three texts parted by zero bytes."""
    folders = sorted(path for path in (ROOT / "examples" / "policies").iterdir() if path.is_dir())
    names = ("law.toml", "rules.cedar", "examples.toml")
    texts = [LawText(*((folder / name).read_text() for name in names)) for folder in folders]
    return [data for text in texts for data in (bundle(text), "\0".join(text).encode())]


def signed(kind: str, statement: bytes) -> types_pb2.Signed:
    """Return bytes under a good signature."""
    signature: Signature = _signer("seal").sign(kind, statement)
    return types_pb2.Signed(statement=statement, certificate=signature.certificate, signature=signature.value)


def statements() -> list[bytes]:
    """Return a sealed search and a sealed answer."""
    search = peer_pb2.Search(
        request_id="r",
        asking_country="HND",
        asked_country="SLV",
        create_time=stamp(AT),
        prints=[types_pb2.Print(position=1, ppi=500, image=picture("PNG"))],
    )
    answer = peer_pb2.Answer(asked_country="SLV", create_time=stamp(AT), complete=True, padding=bytes(9))
    kinds = {"search": search, "answer": answer}
    return [signed(kind, each.SerializeToString()).SerializeToString() for kind, each in kinds.items()]
