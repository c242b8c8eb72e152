"""As a program: a country whose quota is used up, and that asks on. `refused.py WORLD ADDRESS RATE`"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (3, 2, 1, 0)]

import grpc  # noqa: E402
from countries import Asking, a_print  # noqa: E402

from papilar.api.peer.v1 import peer_pb2  # noqa: E402


def main(world: str, address: str, rate: str) -> None:
    hnd = Asking(Path(world), "HND", address)
    requests = [peer_pb2.SearchRequest(search=hnd.sealed(a_print())) for _ in range(50)]
    with hnd.calling() as stub, ThreadPoolExecutor(40) as pool:

        def ask(number: int) -> None:
            try:
                list(stub.Search(requests[number % len(requests)], timeout=30))
                sys.stdout.write("answered\n")
            except grpc.RpcError as error:
                sys.stdout.write(f"{error.code().name}\n")  # type: ignore[attr-defined]

        number = 0
        while True:
            pool.submit(ask, number)
            number += 1
            if number % 20 == 0:
                sys.stdout.flush()
            time.sleep(1 / float(rate))


if __name__ == "__main__":
    main(*sys.argv[1:])
