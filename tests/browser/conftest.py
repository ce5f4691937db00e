"""A real browser on a real server: what the tests in here start from.

They need Playwright's Python package (the extra ``browser``) and a Chromium: the one that
``RELIABLE_TASKS_CHROMIUM`` names, or the distribution's. Without, they are skipped, which is a
failure where ``RELIABLE_TASKS_BROWSER=required``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
#: Milliseconds that a page may take on a machine that has much else to do.
PATIENCE = 20_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in here, and give it the time that a browser takes to start."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(180))


def find_chromium() -> str:
    """Return the browser's program, or an empty string."""
    given = os.environ.get("RELIABLE_TASKS_CHROMIUM")
    return given or next((path for name in CANDIDATES if (path := shutil.which(name))), "")


def missing() -> str:
    """Return what the tests need and there is not, in words."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "Playwright is not installed: pip install 'django-reliable-tasks[browser]'"
    return (
        "" if find_chromium() else "no Chromium: install it, or name it in RELIABLE_TASKS_CHROMIUM"
    )


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """Start one browser for all tests in here."""
    if why := missing():
        if os.environ.get("RELIABLE_TASKS_BROWSER") == "required":
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    # Playwright's synchronous face runs an event loop in this thread, and Django's ORM refuses to
    # work beside one unless told to.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), headless=True, args=list(FLAGS)
        )
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
    else:
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@pytest.fixture
def open_browser(chromium: Any, live_server: Any) -> Iterator[Callable[..., Any]]:
    """Give the test a function that opens a page as somebody who is logged in.

    The function takes a user and options of the browser's context, such as ``color_scheme`` and
    ``java_script_enabled``. At the end no page may have met an error of a script, an inline script
    or style that the policy refused, or a file that is not there.
    """
    contexts: list[Any] = []
    complaints: list[str] = []

    def answered(response: Any) -> None:
        if response.status >= 400 and not response.url.endswith("/favicon.ico"):
            complaints.append(f"{response.status} {response.url}")

    def said(message: Any) -> None:
        if message.type == "error" and "favicon" not in str(message.location):
            complaints.append(message.text)

    def open_as(user: User, **options: Any) -> Any:
        context = chromium.new_context(
            base_url=live_server.url, **{"viewport": {"width": 1280, "height": 900}, **options}
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        client = Client()
        client.force_login(user)
        session = client.cookies["sessionid"].value
        context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        page = context.new_page()
        page.on("response", answered)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_as
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def staff(transactional_db: None) -> Callable[..., User]:
    """Give the test a function that makes a member of the staff with the permissions named."""

    def make(*permissions: str, username: str = "ann", **more: Any) -> User:
        user = User.objects.create_user(username, is_staff=True, **more)
        found = Permission.objects.filter(codename__in=permissions)
        assert found.count() == len(set(permissions)), f"unknown among {permissions}"
        user.user_permissions.set(found)
        return user

    return make


@pytest.fixture
def page(open_browser: Callable[..., Any], staff: Callable[..., User]) -> Any:
    """Give the test a page of a superuser's."""
    return open_browser(staff(is_superuser=True, username="root"))
