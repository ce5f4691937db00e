"""The gateway's HTTP interface.

========  ============  =====================================================================
``POST``  ``/charges``  take money: JSON ``reference`` and ``amount``, header ``Idempotency-Key``
``GET``   ``/charges``  charges by reference, repeated requests, requests by temper
``PUT``   ``/mood``     change how it misbehaves, e.g. ``{"outage": true}``
``GET``   ``/health``   answers when it is up
========  ============  =====================================================================
"""

import json
import socket
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from example_project.gateway.book import Book, KeyReused
from example_project.gateway.mood import Moody, Temper

#: Longer than the shop is willing to wait for an answer, in seconds.
HANG_SECONDS = 3.0


class BadRequest(Exception):
    """The request cannot be understood; the text says why."""


class Gateway(ThreadingHTTPServer):
    """Serves one book of charges.

    Args:
        address: host and port to listen on; port 0 takes a free one.
        book: path of the book's SQLite file.
        moody: decides which requests go wrong.
        hang_seconds: how late a hanging answer is.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        book: Path,
        moody: Moody | None = None,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        self.book = Book(book)
        self.moody = moody or Moody()
        self.hang_seconds = hang_seconds
        super().__init__(address, Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that went away while they were answered: the shop's timeout does it."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def server_close(self) -> None:
        """Stop listening and close the book."""
        super().server_close()
        self.book.close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Gateway
    timeout = 10

    def do_GET(self) -> None:
        """Answer ``/charges`` and ``/health``."""
        if self.path == "/charges":
            book = self.server.book
            self._answer(
                HTTPStatus.OK,
                {
                    "charges": book.charges(),
                    "repeats": book.repeats(),
                    "requests": self.server.moody.drawn(),
                },
            )
        elif self.path == "/health":
            self._answer(HTTPStatus.OK, {"up": True})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "no such page"})

    def do_PUT(self) -> None:
        """Change the mood."""
        if self.path != "/mood":
            self._answer(HTTPStatus.NOT_FOUND, {"error": "no such page"})
            return
        try:
            self._answer(HTTPStatus.OK, self.server.moody.change(self._body()))
        except (BadRequest, ValueError) as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def do_POST(self) -> None:
        """Take money, in whatever temper the gateway is."""
        if self.path != "/charges":
            self._answer(HTTPStatus.NOT_FOUND, {"error": "no such page"})
            return
        temper = self.server.moody.draw()
        try:
            key, reference, amount = self._order()
            if temper is Temper.BUSY:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "try again later"})
                return
            charge = self.server.book.charge(key, reference, amount)
        except BadRequest as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except KeyReused as error:
            self._answer(HTTPStatus.CONFLICT, {"error": str(error)})
        else:
            if temper is Temper.DROP:
                self._hang_up()
                return
            if temper is Temper.HANG:
                time.sleep(self.server.hang_seconds)
            status = HTTPStatus.CREATED if charge.asked == 1 else HTTPStatus.OK
            self._answer(status, {"id": charge.id, "amount": charge.amount})

    def _order(self) -> tuple[str, str, str]:
        key = self.headers.get("Idempotency-Key", "")
        body = self._body()
        reference, amount = body.get("reference"), body.get("amount")
        if not key:
            raise BadRequest("the header Idempotency-Key is missing")
        if not isinstance(reference, str) or not isinstance(amount, str):
            raise BadRequest("reference and amount are needed, both as text")
        return key, reference, amount

    def _body(self) -> dict[str, object]:
        try:
            length = int(self.headers.get("Content-Length", "0"))
            body = json.loads(self.rfile.read(length))
        except ValueError as error:
            raise BadRequest("the body is not JSON") from error
        if not isinstance(body, dict):
            raise BadRequest("the body is not a JSON object")
        return body

    def _answer(self, status: HTTPStatus, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
