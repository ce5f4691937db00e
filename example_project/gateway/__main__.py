"""``python -m example_project.gateway [--port 8010] [--book FILE]``."""

import argparse
from pathlib import Path

from example_project.gateway.server import Gateway


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="example_project.gateway", description=__doc__)
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--book", type=Path, default=Path("var/gateway.sqlite3"))
    options = parser.parse_args()
    options.book.parent.mkdir(parents=True, exist_ok=True)
    gateway = Gateway(("127.0.0.1", options.port), options.book)
    print(f"gateway on http://127.0.0.1:{gateway.server_port}, book in {options.book}", flush=True)
    try:
        gateway.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        gateway.server_close()


if __name__ == "__main__":
    main()
