"""The rules of the house that no linter knows: size, doors, names, error tree, documents that are true."""

import ast
import importlib
import pkgutil
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer.main

from matcher.errors import PapilarError
from papilar.cli import app
from papilar.server import CODES

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("matcher", "enroll", "papilar", "benchmarks")
LIBRARIES = ("matcher", "enroll", "papilar")
GENERATED = "papilar/api/"

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("NOTICE"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "datasets").glob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]
)

DOORS = {
    "faiss": ("matcher/index.py",),
    "numba": ("matcher/kernels/", "enroll/kernels.py", "benchmarks/kernels.py"),
    "onnxruntime": ("enroll/leader/__init__.py", "benchmarks/extraction.py"),
    "onnx": ("enroll/leader/network.py",),
    "h5py": ("enroll/leader/network.py",),
    "platformdirs": ("enroll/leader/__init__.py",),
    "wsq": ("enroll/image.py", "enroll/nist/wsq_file.py"),
    "nistitl": (),
    "fsspec": ("papilar/archive/sources/place.py", "papilar/originals.py"),
    "pyarrow": ("papilar/archive/sources/manifest.py",),
    "ray": ("papilar/cluster/connection.py",),
    "cv2": ("enroll/", "benchmarks/"),
    "PIL": ("enroll/image.py", "enroll/nist/wsq_file.py", "papilar/picture/", "benchmarks/"),
    "grpc": (
        "papilar/server.py",
        "papilar/client.py",
        "papilar/tls.py",
        "papilar/access.py",
        "papilar/peer_server.py",
        "papilar/peer_client.py",
        "papilar/region_server.py",
        "papilar/duplicates_server.py",
        "papilar/conformance/wire.py",
        "benchmarks/federation_asking.py",
    ),
    "grpc_health": ("papilar/server.py",),
    "grpc_reflection": ("papilar/server.py",),
    "grpc_status": (
        "papilar/server.py",
        "papilar/client.py",
        "papilar/peer_server.py",
        "papilar/region_server.py",
        "papilar/duplicates_server.py",
    ),
    "sqlalchemy": ("papilar/store/",),
    "sqlite3": ("papilar/store/",),
    "typer": ("papilar/cli.py", "papilar/commands/", "benchmarks/"),
    "cryptography": (
        "papilar/encryption.py",
        "papilar/signing.py",
        "papilar/trust.py",
        "papilar/pki.py",
    ),
    "cedarpy": ("papilar/policy/rules.py",),
    "jwt": ("papilar/oidc.py",),
    "alembic": ("papilar/store/migrations/",),
    "psycopg": (),
    "nbis": ("benchmarks/systems.py", "enroll/nfiq_worker.py"),
    "matplotlib": ("benchmarks/",),
    "skimage": ("benchmarks/",),
}
"""Where each outside library may be imported: a file, or a folder that ends in a slash."""

BANNED_WORDS = {"stage", "phase", "manager", "helper", "util"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


# ---- what is looked at


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def files(*folders: str) -> tuple[Path, ...]:
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return tuple(path for path in found if not name_of(path).startswith(GENERATED))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def nodes(kind: type[ast.AST] | tuple[type[ast.AST], ...], *folders: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield every node of a kind with its place, `file:line`."""
    for path in files(*folders):
        for node in ast.walk(tree(path)):
            if isinstance(node, kind):
                yield f"{name_of(path)}:{getattr(node, 'lineno', 1)}", node


def functions(*folders: str) -> Iterator[tuple[str, Function]]:
    for place, node in nodes((ast.FunctionDef, ast.AsyncFunctionDef), *folders):
        yield f"{place} {node.name}", node  # type: ignore[attr-defined]


def length(function: Function) -> int:
    """Lines of a body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: Function) -> list[ast.arg]:
    given = function.args
    return [*given.posonlyargs, *given.args, *given.kwonlyargs]


def decorators(function: Function) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the last part of each decorator's name, and its keywords."""
    for decorator in function.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = ast.unparse(call.func if call else decorator).rpartition(".")[2]
        yield name, {str(k.arg): ast.unparse(k.value) for k in call.keywords} if call else {}


def compiled(*folders: str) -> Iterator[tuple[str, Function, dict[str, str]]]:
    for place, function in functions(*folders):
        for name, keywords in decorators(function):
            if name in {"njit", "jit", "vectorize", "guvectorize", "cfunc", "stencil"}:
                yield place, function, keywords


# ---- sizes


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short(package: str) -> None:
    lengths = {place: length(f) for place, f in functions(package)}
    long = {place: n for place, n in lengths.items() if n > 40}
    assert statistics.median(lengths.values()) <= 10
    assert len(long) <= 0.1 * len(lengths), long


def test_the_straight_lines_are_read_aloud() -> None:
    wanted = {"enroll/pipeline.py": "extract", "matcher/compare.py": "compare", "matcher/search.py": "search"}
    lines = [(p, length(f)) for p, f in functions(*LIBRARIES) if wanted.get(p.split(":")[0]) == f.name]
    assert {place.split(":")[0] for place, _ in lines} == wanted.keys()
    assert [line for line in lines if line[1] > 25] == []


def test_kernels_are_short_and_take_few_arguments() -> None:
    kernels = [(place, length(f), len(parameters(f))) for place, f, _ in compiled(*PACKAGES)]
    assert kernels
    assert [kernel for kernel in kernels if kernel[1] > 80 or kernel[2] > 8] == []


def test_files_are_short() -> None:
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files(*PACKAGES)}
    assert {name: n for name, n in lines.items() if n > 500} == {}


# ---- what stands where


def test_kernels_stand_where_kernels_stand() -> None:
    """In one file of their package, or a folder of that name whose files call nothing of each other."""
    allowed = tuple(f"{package}/kernels" for package in PACKAGES)
    assert [place for place, _, _ in compiled(*PACKAGES) if not place.startswith(allowed)] == []
    for path in files(*PACKAGES):
        if "kernels" in name_of(path):
            found = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)]
            assert [node.module for node in found if str(node.module).split(".")[0] in PACKAGES] == []


def test_kernels_are_cached_and_leave_threads_to_others() -> None:
    kept = {"cache": "True", "nogil": "True"}
    assert [place for place, _, keywords in compiled(*PACKAGES) if keywords != kept] == []


def test_outside_libraries_are_behind_their_doors() -> None:
    assert [
        f"{place} {library}"
        for place, library in outside_imports()
        if not any(
            place.split(":")[0] == door or (door[-1] == "/" and place.startswith(door))
            for door in DOORS[library]
        )
    ] == []


def outside_imports() -> Iterator[tuple[str, str]]:
    for place, node in nodes(ast.Import, *PACKAGES):
        names = [alias.name for alias in node.names]  # type: ignore[attr-defined]
        yield from ((place, top) for top in (name.split(".")[0] for name in names) if top in DOORS)
    for place, node in nodes(ast.ImportFrom, *PACKAGES):
        top = (node.module or "").split(".")[0]  # type: ignore[attr-defined]
        if top in DOORS:
            yield place, top


def test_no_test_imports_a_conftest() -> None:
    """Every folder has one: which of them the name means hangs on the order of the folders that are run."""
    imports = nodes(ast.ImportFrom, "tests")
    assert [place for place, node in imports if getattr(node, "module", None) == "conftest"] == []


def test_libraries_print_nothing() -> None:
    calls = (
        (place, node.func)  # type: ignore[attr-defined]
        for place, node in nodes(ast.Call, *LIBRARIES)
    )
    assert [place for place, called in calls if isinstance(called, ast.Name) and called.id == "print"] == []


def test_the_environment_is_read_in_one_place() -> None:
    reads = (
        place
        for place, node in nodes((ast.Attribute, ast.ImportFrom), *LIBRARIES)
        if ast.unparse(node).startswith(("os.environ", "os.getenv", "from os import"))
    )
    # `enroll` reads nothing there: it sets what silences a library, which asks before anybody else can.
    outside = [place for place in reads if not place.startswith("papilar/config/")]
    assert [place.partition(":")[0] for place in outside] == ["enroll/__init__.py"]


def test_no_module_global_is_rebound() -> None:
    assert [place for place, _ in nodes(ast.Global, *PACKAGES)] == []


def test_values_are_frozen_and_slotted() -> None:
    loose = []
    for place, node in nodes(ast.ClassDef, *PACKAGES):
        for decorator in node.decorator_list:  # type: ignore[attr-defined]
            text = ast.unparse(decorator)
            if text.startswith("dataclass") and not {"frozen=True", "slots=True"} <= set(
                re.split(r"[(), ]+", text)
            ):
                loose.append(f"{place} {text}")
    assert loose == []


def test_arrows_point_down() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- words


def test_every_file_says_first_what_it_is() -> None:
    heads = {name_of(path): path.read_text(encoding="utf-8")[:4] for path in files(*PACKAGES, "tests")}
    assert [name for name, head in heads.items() if not head.startswith(('"""', 'r"""'))] == []


def test_everything_public_has_a_docstring() -> None:
    bare = [
        f"{name_of(p)} {n.name}"
        for p in files(*PACKAGES)
        for n in public(tree(p))
        if not ast.get_docstring(n)
    ]
    assert bare == []


def public(parent: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    for node in parent.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def test_names_keep_to_the_word_list() -> None:
    given = [*defined_names(), *((name_of(path), path.stem) for path in files(*PACKAGES))]
    assert [f"{place} {name}" for place, name in given if banned_at(place) & words(name)] == []


def banned_at(place: str) -> set[str]:
    """Return the words that no name may hold there: where waves are described, they have a phase."""
    return BANNED_WORDS - {"phase"} if place.partition(":")[0].endswith("/ridges.py") else BANNED_WORDS


def defined_names() -> Iterator[tuple[str, str]]:
    """Yield every name that the code gives: not what other libraries call theirs."""
    for place, node in nodes(ast.AST, *PACKAGES):
        if isinstance(node, Function | ast.ClassDef):
            yield place, node.name
        elif isinstance(node, ast.arg):
            yield place, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield place, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield place, node.attr


def words(name: str) -> set[str]:
    """Return the words of snake_case or CamelCase, each with and without its plural s."""
    found = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    return found | {word.removesuffix("s") for word in found}


# ---- errors


@cache
def errors() -> tuple[type[PapilarError], ...]:
    for package in LIBRARIES:
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            importlib.import_module(module.name)
    return tuple(kind for kind in family(PapilarError) if kind.__module__.split(".")[0] in LIBRARIES)


def family(kind: type[PapilarError]) -> Iterator[type[PapilarError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


def drawn(module: str) -> dict[str, str]:
    """Return the parent of every class in the tree at the head of an `errors.py`."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (importlib.import_module(module).__doc__ or "").splitlines():
        found = re.match(r"^([ │├└─]*)([A-Z]\w+)(?:   | *$)", line)
        if found and (above or not parents):
            indent, name = len(found[1]), found[2]
            while above and above[-1][0] >= indent:
                above.pop()
            if above:
                parents[name] = above[-1][1]
            above.append((indent, name))
    return parents


def test_every_error_stands_in_an_errors_file() -> None:
    assert {kind.__module__ for kind in errors()} == {f"{package}.errors" for package in LIBRARIES}


def test_every_error_has_a_reason_of_its_own() -> None:
    reasons = [kind.__dict__.get("reason") for kind in errors()]
    assert None not in reasons
    assert len(set(reasons)) == len(reasons)


def test_every_error_is_drawn_where_it_belongs() -> None:
    for kind in errors():
        if kind is not PapilarError:
            assert drawn(kind.__module__).get(kind.__name__) == kind.__base__.__name__, kind  # type: ignore[union-attr]


def test_every_error_has_a_canonical_code() -> None:
    assert set(CODES) == set(errors())


# ---- documents


def texts() -> Iterator[tuple[Path, str]]:
    for path in DOCUMENTS:
        yield path, path.read_text(encoding="utf-8")


def quoted() -> Iterator[tuple[str, str]]:
    """Yield every `span of code` on one line of a document."""
    for path, text in texts():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        yield from ((name_of(path), span) for span in re.findall(r"`([^`\n]+)`", prose))


def commands() -> Iterator[tuple[str, str]]:
    """Yield every line of code of a document, a line that goes on joined to the next."""
    for path, text in texts():
        blocks = re.findall(r"^```.*?^```|^(?: {4}.*\n?)+", text, flags=re.MULTILINE | re.DOTALL)
        lines = "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])
        yield from ((name_of(path), line.strip()) for line in re.sub(r"\\\n\s*", " ", lines).splitlines())


def links() -> Iterator[tuple[Path, str]]:
    """Yield every link of a document to a file of ours."""
    for path, text in texts():
        found = re.findall(
            r"\]\(([^)\s#]+)[^)]*\)|^\[[^\]]+\]: (\S+)|src=\"([^\"]+)", text, flags=re.MULTILINE
        )
        targets = (target for groups in found for target in groups if target)
        yield from ((path, t) for t in targets if "://" not in t and not t.startswith("mailto:"))


def test_links_lead_somewhere() -> None:
    assert [f"{name_of(path)}: {t}" for path, t in links() if not (path.parent / t).exists()] == []


def test_files_that_documents_name_exist() -> None:
    names = {path.name for path in ROOT.glob("*")} | {
        path.name
        for folder in (*PACKAGES, "proto", "tests", "docs", "datasets")
        for path in (ROOT / folder).rglob("*")
    }
    missing = []
    for where, span in quoted():
        if re.fullmatch(rf"(?:{'|'.join(PACKAGES)}|proto|tests|docs|datasets|\.ci)/[\w./-]*", span):
            missing += [] if (ROOT / span).exists() else [f"{where}: {span}"]
        elif re.fullmatch(r"\w+\.(?:py|proto|md)", span):
            missing += [] if span in names else [f"{where}: {span}"]
    assert missing == []


def test_python_names_in_documents_exist() -> None:
    pattern = rf"((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)(?:\(\))?"
    named = ((where, re.fullmatch(pattern, span)) for where, span in quoted())
    spans = [
        (where, found[1]) for where, found in named if found and not found[1].endswith((".py", ".sqlite3"))
    ]
    assert [f"{where}: {span}" for where, span in spans if not resolves(span)] == []


def resolves(dotted: str) -> bool:
    if dotted.startswith("papilar.api."):
        return True  # the contract's names, which its own tests check
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


GROUPS = tuple(name for name, one in typer.main.get_command(app).commands.items() if hasattr(one, "commands"))  # type: ignore[attr-defined]


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with the words that call it: ("policy test", ...)."""
    for word, one in getattr(command, "commands", {}).items():
        path = f"{name} {word}".strip()
        yield from leaves(one, path) if hasattr(one, "commands") else [(path, one)]


def test_commands_in_documents_exist() -> None:
    known = {
        name: {option for given in command.params for option in (*given.opts, *given.secondary_opts)}
        for name, command in leaves(typer.main.get_command(app))
    } | {group: set() for group in GROUPS}
    wrong = []
    for where, line in commands():
        found = re.match(rf"(?:\$ )?papilar ((?:(?:{'|'.join(GROUPS)}) )?[a-z]+)\b(.*)", line.split("#")[0])
        if found:
            used = set(re.findall(r"(?<!\S)\[?(--?[a-z][a-z-]*)", found[2]))
            wrong += [f"{where}: {line}"] if used - known.get(found[1], set()) - {"--help"} else []
            wrong += [] if found[1] in known else [f"{where}: {line}"]
    assert wrong == []


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = ((where, re.match(r"(?:\$ )?make (\w+)", line)) for where, line in commands())
    assert [f"{where}: make {found[1]}" for where, found in named if found and found[1] not in targets] == []


def test_trace_keys_are_all_documented() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    keys = {
        node.args[0].value  # type: ignore[attr-defined]
        for _, node in nodes(ast.Call, *LIBRARIES)
        if ast.unparse(node.func) == "trace"  # type: ignore[attr-defined]
    }
    assert keys
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_every_file_is_in_the_layout() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    layout = text[text.index("## Layout") :]
    left_out = [
        name
        for name in map(name_of, files(*PACKAGES))
        if f"`{name}`" not in layout and Path(name).name not in {"__init__.py", "__main__.py"}
    ]
    assert left_out == []


def test_every_package_that_is_installed_has_its_licence_stated() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[^\w.-]", requirement)[0] for requirement in wanted}
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Packages and licences")[1]
    stated = set(re.findall(r"^\| ([a-z][\w.-]*) \| \S", table, flags=re.MULTILINE))
    assert stated == names


def test_documents_name_no_machine() -> None:
    private = (
        r"(?<![\w.])(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+",
        r"(?<![\w./<~])/(?:home|root|Users|mnt|media|work|workspace|tmp|opt|srv)/",
        r"\b[\w-]+\.(?:internal|local|lan|corp)\b",
    )
    found = [
        f"{name_of(path)}: {match[0]}"
        for path, text in texts()
        for pattern in private
        for match in re.finditer(pattern, text)
    ]
    assert found == []
