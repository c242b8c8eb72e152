"""The entry of the command `papilar`: loads the libraries once gRPC is quiet and Ctrl-C is clean."""

import sys

from papilar.config import quieten_grpc


def main() -> None:
    """Run the command; a Ctrl-C while the libraries load ends it without a trace."""
    quieten_grpc()
    try:
        from papilar import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
