"""The migration page names all that celery_once 3.0.1 and celery_singleton 0.3.1 have."""

from __future__ import annotations

import re

import pytest

from tests.pages import DOCS

CELERY_ONCE = {
    "the package": ("QueueOnce", "AlreadyQueued"),
    "options": ("keys", "graceful", "timeout", "unlock_before_run"),
    "the task": (
        *("config", "once_config", "once_backend", "default_timeout", "unlock_before_run()"),
        *("get_key()", "_get_call_args()", "after_return()", "__call__"),
        *("retries", "task.apply()", "self.retry()"),
    ),
    "the error": (".countdown", ".message"),
    "app.conf.ONCE": ("backend", "url", "location", "default_timeout", "blocking"),
    "more of it": ("blocking_timeout", "raise_or_lock", "clear_lock", "Redis", "File"),
    "helpers": (
        *("queue_once_key", "import_backend", "force_string", "kwargs_to_list"),
        *("items_sorted_by_key", "order_dict_to_string"),
    ),
    "modules": ("celery_once.tasks", "celery_once.helpers", "celery_once.backends"),
}
CELERY_SINGLETON = {
    "the package": ("Singleton", "clear_locks", "DuplicateTaskError", "CelerySingletonException"),
    "options": ("unique_on", "raise_on_duplicate", "lock_expiry"),
    "the task": (
        *("generate_lock()", "aquire_lock()", "lock_and_run()", "get_existing_task_id()"),
        *("release_lock()", "unlock()", "on_duplicate()", "on_success()", "on_failure()"),
        *("singleton_backend", "singleton_config"),
    ),
    "the error": (".task_id",),
    "settings": (
        *("singleton_backend_url", "singleton_backend_class", "singleton_backend_kwargs"),
        *("singleton_json_encoder_class", "singleton_key_prefix"),
        *("singleton_raise_on_duplicate", "singleton_lock_expiry"),
    ),
    "backends": ("BaseBackend", "RedisBackend"),
}
PARTS = {"celery_once": CELERY_ONCE, "celery_singleton": CELERY_SINGLETON}
NAMES = [
    (package, part, name)
    for package, parts in PARTS.items()
    for part, names in parts.items()
    for name in names
]


@pytest.mark.parametrize(("package", "part", "name"), NAMES)
def test_every_name_is_on_the_page(package, part, name):
    """Whoever searches the page for a name of theirs finds what becomes of it."""
    page = (DOCS / "from-celery-once.md").read_text()
    chapter = page.partition(f"## {package}\n")[2].partition("\n## ")[0]
    code = re.findall(
        r"`([^`]+)`", re.sub(r"^```.*?^```", "", chapter, flags=re.MULTILINE | re.DOTALL)
    )
    wanted = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    assert any(wanted.search(each) for each in code), f"{part}: {name}"
