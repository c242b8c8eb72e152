"""Commands of `papilar` as a person would type them: run to their end, or serving until a block ends."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

_START_S, _STOP_S = 90.0, 60.0

Process = subprocess.Popen[bytes]

out = Console(highlight=False)


def command(*arguments: str) -> list[str]:
    """Return a command of `papilar`, to be run by this interpreter."""
    return [sys.executable, "-m", "papilar", *arguments]


def papilar(*arguments: str, quiet: bool = False, may_fail: bool = False) -> None:
    """Show a command, run it, and end this program where it fails and may not."""
    out.print(f"[bold cyan]$ papilar {' '.join(arguments)}")
    # S603: the arguments are constants of the caller, and what the commands themselves answered.
    done = subprocess.run(  # noqa: S603
        command(*arguments), check=False, stdout=subprocess.DEVNULL if quiet else None
    )
    if done.returncode and not may_fail:
        sys.exit(f"papilar {arguments[0]} ended with code {done.returncode}")


@contextmanager
def shown_node(address: str, *arguments: str) -> Iterator[Process]:
    """Show `papilar serve`, and run it until the block ends, which begins when it listens at `address`."""
    out.print(f"[bold cyan]$ papilar serve {' '.join(arguments)} &")
    with node(*arguments) as process:
        if not listens(process, address):
            sys.exit("a node did not start; its message is above")
        yield process


@contextmanager
def node(*arguments: str, log: Path | None = None) -> Iterator[Process]:
    """Run `papilar serve` until the block ends; what it says goes into the file `log`, if given."""
    with nullcontext() if log is None else log.open("wb") as said:
        process = subprocess.Popen(command("serve", *arguments), stderr=said)  # noqa: S603  as above
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(process: Process, address: str, *, seconds: float = _START_S) -> bool:
    """Wait until a node listens at `HOST:PORT`; False where it has ended, or does not so soon."""
    until, (host, port) = time.monotonic() + seconds, address.rsplit(":", 1)
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as knocking:
            if knocking.connect_ex((host, int(port))) == 0:
                return True
        time.sleep(0.2)
    return False


def free_addresses(count: int) -> list[str]:
    """Return addresses of this machine where nothing listens, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
