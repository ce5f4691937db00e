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
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlencode
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
IMAGES = HERE / "images"
WIDTH = 1280
#: Filling a field scrolls to it and leaves the focus there.
_AT_REST = """() => {
    document.activeElement?.blur();
    document.querySelectorAll('*').forEach(each => { each.scrollTop = 0; });
}"""
sys.path[:0] = [str(ROOT), str(HERE)]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a page.

    Attributes:
        name: of the file, without light or dark.
        address: of the page, under ``/admin/``.
        height: most pixels of the page's top to show.
        fill: fields to fill before, by their labels.
        opens: elements to click then.
    """

    name: str
    address: str
    height: int = 900
    fill: tuple[tuple[str, str], ...] = ()
    opens: tuple[str, ...] = ()


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

    from reliable_tasks.models import Entry, Operation, OperatorAct, Pause, WorkerProcess
    from reliable_tasks.states import State

    down = Entry.objects.dead().filter(error_class__endswith="GatewayDown").order_by("-pk")
    dead = down[0]
    crashed = Entry.objects.dead().get(error_class="ProcessLost")
    declined = Entry.objects.dead().filter(error_class__endswith="GatewayRefused").order_by("-pk")
    waits = Entry.objects.filter(state=State.PENDING, queue="mail", attempt=0).order_by("pk")[0]
    runs = Entry.objects.get(state=State.RUNNING, task="shop.report_sales")
    schedule = PeriodicTask.objects.get(name="stock check")
    paused = PeriodicTask.objects.get(name="reminder")
    act = OperatorAct.objects.filter(act="discard").get()
    busy = WorkerProcess.objects.get(hostname="celery@web1")
    pause = Pause.objects.get(name="mail")
    ours, beat = "reliable_tasks", "django_celery_beat/periodictask"
    acting, steered = f"{ours}/entry/act", f"{ours}/operation/{Operation.objects.get().pk}"
    group = f"state=dead&task=shop.charge&fingerprint={dead.fingerprint}&error={dead.error_class}"
    no = declined[0]
    refused = f"state=dead&task=shop.charge&fingerprint={no.fingerprint}&error={no.error_class}"
    hour = schedule.last_run_at
    night = urlencode(
        {
            "state": "dead",
            "since": f"{down.last().enqueued_at:%Y-%m-%dT%H:00}",
            "until": f"{dead.enqueued_at + timedelta(hours=1):%Y-%m-%dT%H:00}",
        }
    )
    return [
        Picture("overview", f"{ours}/overview/?window=6h", 2000),
        Picture("dead-letters", f"{ours}/deadletter/", 1000),
        Picture("entries", f"{ours}/entry/?{night}", 900),
        Picture("entry-dead", f"{ours}/entry/{dead.pk}/change/", 1600),
        Picture("entry-crashed", f"{ours}/entry/{crashed.pk}/change/", 1300),
        Picture("entry-waiting", f"{ours}/entry/{waits.pk}/change/", 1000),
        Picture("entry-running", f"{ours}/entry/{runs.pk}/change/", 900),
        Picture("order", f"shop/order/{dead.subject_id}/change/", 620),
        Picture(
            *("requeue", f"{acting}/requeue/?{group}", 760),
            fill=_because("The gateway is back: see incident 341.", **{"Minutes:": "30"}),
            opens=("input[value=spread]",),
        ),
        Picture(
            *("edit", f"{acting}/edit/?id={no.pk}", 860),
            fill=_because(
                "The order was placed twice; this is the one that was kept.",
                **{"Positional arguments": f"[{int(no.subject_id) + 1}]"},
            ),
        ),
        Picture(
            *("cancel", f"{acting}/cancel/?state=pending&queue=mail", 620),
            fill=_because("The provider sends these itself after its move."),
        ),
        Picture(
            *("discard", f"{acting}/discard/?{refused}", 620),
            fill=_because("Paid by bank transfer instead."),
        ),
        Picture(
            *("release", f"{acting}/release/?id={runs.pk}", 620),
            fill=_because("The board cannot wait for this report; a second one may run beside it."),
        ),
        Picture("operations", f"{ours}/operation/", 420),
        Picture("operation", f"{steered}/change/", 900),
        Picture(
            *("operation-stop", f"{steered}/steer/?to=stop", 620),
            fill=_because("The gateway is down again."),
        ),
        Picture("acts", f"{ours}/operatoract/", 560),
        Picture("act", f"{ours}/operatoract/{act.pk}/change/", 720),
        Picture("pauses", f"{ours}/pause/", 420),
        Picture(
            *("pause", f"{ours}/pause/pause/", 680),
            fill=_because(
                "The gateway is down again (incident 344): no more retries are to be used up.",
                **{"Its name": "shop.charge", "For so many minutes": "60"},
            ),
            opens=("input[value=task]", "input[type=submit]"),
        ),
        Picture(
            *("resume", f"{ours}/pause/{pause.pk}/resume/", 520),
            fill=_because("The provider has moved, and a test mail has arrived."),
        ),
        Picture("workers", f"{ours}/workerprocess/", 520),
        Picture("worker", f"{ours}/workerprocess/{quote(busy.pk)}/change/", 900),
        Picture("schedules", f"{beat}/", 560),
        Picture("schedule", f"{beat}/{schedule.pk}/change/", 2800),
        Picture(
            *("schedule-run", f"{beat}/{schedule.pk}/act/run/", 520),
            fill=_because("A delivery has come in; the count is needed before the sale."),
        ),
        Picture(
            *("schedule-pause", f"{beat}/{schedule.pk}/act/pause/", 560),
            fill=_because(
                "The warehouse is moving; its figures are wrong until tomorrow.",
                Until=f"{hour + timedelta(hours=20):%Y-%m-%dT%H:%M}",
            ),
        ),
        Picture(
            *("schedule-resume", f"{beat}/{paused.pk}/act/resume/", 520),
            fill=_because("Ticket 812 is closed: nobody is reminded twice."),
        ),
        Picture(
            *("schedule-backfill", f"{beat}/{schedule.pk}/act/backfill/", 760),
            fill=_because(
                "The counts of those hours are missing in the report.",
                **{
                    "From:": f"{hour - timedelta(hours=8):%Y-%m-%dT%H:%M}",
                    "To:": f"{hour - timedelta(hours=5):%Y-%m-%dT%H:%M}",
                },
            ),
            opens=("input[type=submit]",),
        ),
        Picture("occurrences", f"{ours}/occurrence/", 760),
    ]


def _because(reason: str, **more: str) -> tuple[tuple[str, str], ...]:
    """Return what to fill in: the reason, and other fields by their labels."""
    return (("Reason", reason), *more.items())


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
                    page.locator("#content").get_by_label(label).first.fill(text)
                for target in each.opens:
                    page.locator(target).first.click()
                page.wait_for_load_state()
                page.evaluate(_AT_REST)
                height = page.evaluate("document.querySelector('#container').scrollHeight")
                page.set_viewport_size({"width": WIDTH, "height": min(each.height, height)})
                page.evaluate(_AT_REST)
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
