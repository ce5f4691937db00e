"""Takes the pictures of the admin in ``images/``: ``make screenshots``.

They show the example shop after a day (``shop_day.py``), light and dark, in headless Chromium,
which must be installed: the one that ``RELIABLE_TASKS_CHROMIUM`` names, or the distribution's. The
pages are served under a strict content security policy; one that breaks it is an error.
"""

# ruff: noqa: INP001, T201 - a script beside the pages, in no package

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
IMAGES = HERE / "images"
WIDTH = 1280
sys.path[:0] = [str(ROOT), str(HERE)]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a page.

    Attributes:
        name: of the file, without light or dark.
        address: of the page, under ``/admin/``.
        height: most pixels of the page's top to show.
        opens: elements to click before.
        fill: fields to fill before, by their labels.
    """

    name: str
    address: str
    height: int = 900
    opens: tuple[str, ...] = ()
    fill: tuple[tuple[str, str], ...] = ()


def main() -> int:
    """Make a shop, live a day, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only pictures whose names contain this")
    parser.add_argument("--into", type=Path, default=IMAGES, help="where to put them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        _open_shop(Path(place))
        import shop_day
        from django.test import Client

        shop_day.live_a_day()
        wanted = [each for each in _pictures() if options.only in each.name]
        client = Client()
        from django.contrib.auth.models import User

        client.force_login(User.objects.get())
        session = client.cookies["sessionid"].value
        options.into.mkdir(exist_ok=True)
        with _served() as address:
            _shoot(wanted, address, session, options.into)
    total = sum(path.stat().st_size for path in options.into.glob("*.png"))
    print(f"{len(list(options.into.glob('*.png')))} pictures, {total / 1e6:.2f} MB")
    return 0


def _open_shop(place: Path) -> None:
    from tests import services

    os.environ["SHOP_VAR"] = str(place)
    os.environ["SHOP_DEBUG"] = "0"
    os.environ["DATABASE_URL"] = f"sqlite:///{place}/shop.sqlite3"
    os.environ["CELERY_BROKER_URL"] = services.ensure_redis()
    os.environ["SHOP_KEY_PREFIX"] = "screenshots-"
    # Playwright's synchronous face runs an event loop in this thread.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    os.environ["DJANGO_SETTINGS_MODULE"] = "example_project.settings"
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.MIDDLEWARE.append("tests.browser.policy.StrictPolicy")
    settings.LOGGING_CONFIG = None
    django.setup()
    import_module("example_project.celery").app.loader.import_default_modules()
    call_command("migrate", verbosity=0)


def _pictures() -> list[Picture]:
    from django.contrib.admin.utils import quote
    from django_celery_beat.models import PeriodicTask

    from reliable_tasks.models import Entry, Operation, OperatorAct, WorkerProcess
    from reliable_tasks.states import State

    dead = Entry.objects.dead().filter(error_class__endswith="GatewayDown").order_by("-pk")[0]
    crashed = Entry.objects.dead().get(error_class="ProcessLost")
    waits = Entry.objects.filter(state=State.PENDING, queue="mail", attempt=0).order_by("pk")[0]
    schedule = PeriodicTask.objects.get(name="stock check")
    act = OperatorAct.objects.filter(act="discard").get()
    busy = WorkerProcess.objects.get(hostname="celery@web1")
    ours, beat = "reliable_tasks", "django_celery_beat/periodictask"
    group = f"state=dead&task=shop.charge&fingerprint={dead.fingerprint}&error={dead.error_class}"
    reason = (("Reason", "The gateway is back: see incident 341."),)
    return [
        Picture("overview", f"{ours}/overview/?window=6h", 2000),
        Picture("dead-letters", f"{ours}/deadletter/", 1000),
        Picture("entries", f"{ours}/entry/?state=dead", 760),
        Picture("entry-dead", f"{ours}/entry/{dead.pk}/change/", 1500),
        Picture("entry-crashed", f"{ours}/entry/{crashed.pk}/change/", 1300),
        Picture("entry-waiting", f"{ours}/entry/{waits.pk}/change/", 1000),
        Picture("requeue", f"{ours}/entry/act/requeue/?{group}", 760, fill=reason),
        Picture("operations", f"{ours}/operation/", 420),
        Picture("operation", f"{ours}/operation/{Operation.objects.get().pk}/change/", 900),
        Picture("acts", f"{ours}/operatoract/", 560),
        Picture("act", f"{ours}/operatoract/{act.pk}/change/", 620),
        Picture("pauses", f"{ours}/pause/", 420),
        Picture("pause", f"{ours}/pause/pause/", 620, fill=(("Its name", "shop"), *reason)),
        Picture("workers", f"{ours}/workerprocess/", 520),
        Picture("worker", f"{ours}/workerprocess/{quote(busy.pk)}/change/", 900),
        Picture("schedules", f"{beat}/", 560),
        Picture("schedule", f"{beat}/{schedule.pk}/change/", 1900),
        Picture("schedule-run", f"{beat}/{schedule.pk}/act/run/", 520, fill=reason),
        Picture("occurrences", f"{ours}/occurrence/", 760),
        Picture("order", f"shop/order/{dead.subject_id}/change/", 620),
    ]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def _served() -> Iterator[str]:
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.wsgi import get_wsgi_application

    class Handler(StaticFilesHandler):
        def serve(self, request: Any) -> Any:
            from django.contrib.staticfiles.views import serve

            return serve(request, self.file_path(request.path), insecure=True)

    application = Handler(get_wsgi_application())
    with make_server(
        "127.0.0.1", 0, application, server_class=_Server, handler_class=_Quiet
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _shoot(wanted: list[Picture], address: str, session: str, into: Path) -> None:
    from playwright.sync_api import sync_playwright
    from shop_day import keep_alive
    from small_png import shrink

    from tests.browser.conftest import FLAGS, find_chromium

    complaints: list[str] = []
    taken: dict[Path, bytes] = {}

    def said(message: Any) -> None:
        if message.type == "error" and "favicon" not in str(message.location):
            complaints.append(message.text)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        for scheme in ("light", "dark"):
            context = browser.new_context(
                base_url=address,
                color_scheme=scheme,
                viewport={"width": WIDTH, "height": 400},
                timezone_id="UTC",
            )
            # The list of all models takes a quarter of the width and is the same on each page.
            context.add_init_script("localStorage['django.admin.navSidebarIsOpen'] = 'false'")
            context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
            page = context.new_page()
            page.on("console", said)
            for each in wanted:
                keep_alive()
                answer = page.goto(f"/admin/{each.address}")
                if answer is None or answer.status != 200:
                    raise SystemExit(f"{each.address} answered {answer and answer.status}")
                for label, text in each.fill:
                    page.get_by_label(label).fill(text)
                for target in each.opens:
                    page.locator(target).click()
                height = page.evaluate("document.querySelector('#container').scrollHeight")
                page.set_viewport_size({"width": WIDTH, "height": min(each.height, height)})
                taken[into / f"{each.name}-{scheme}.png"] = page.screenshot()
                page.set_viewport_size({"width": WIDTH, "height": 400})
        browser.close()
    # Last, because it takes long, and meanwhile the shop would get old.
    for path, png in taken.items():
        path.write_bytes(shrink(png))
        print(f"{path.name}: {path.stat().st_size // 1024} kB", flush=True)
    if complaints:
        raise SystemExit("\n".join(complaints))


if __name__ == "__main__":
    sys.exit(main())
