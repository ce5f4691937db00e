"""The servers under test are real and are the ones that were asked for."""

import subprocess

import psutil
import pytest
import redis
from django.db import connection

from tests import services
from tests.app.models import Effect, Item
from tests.app.tasks import write_effect
from tests.harness import child_env, python, wait_until


def test_redis_answers(redis_url):
    """The suite's Redis answers a PING."""
    client = redis.Redis.from_url(redis_url)
    assert client.ping()
    client.close()


def test_flush_broker_empties_the_broker(flush_broker, redis_url):
    """What one test leaves on the broker, the next one does not find."""
    client = redis.Redis.from_url(redis_url)
    key = f"{services.redis_key_prefix()}leftover"
    client.set(key, "1")
    flush_broker()
    assert client.get(key) is None
    client.close()


def test_private_redis_restarts_empty(private_redis):
    """A private Redis that is killed and started again has forgotten everything."""
    client = redis.Redis.from_url(private_redis.url)
    client.set("k", "v")
    private_redis.kill()
    private_redis.start()
    assert client.get("k") is None
    client.close()


def test_database_is_the_one_asked_for(db):
    """The suite runs on the database that TEST_DATABASE names."""
    names = {"sqlite": "sqlite", "postgres": "postgresql", "mariadb": "mysql"}
    assert connection.vendor == names[services.database_vendor()]


def test_second_connection_is_separate(second_connection):
    """A row that one connection has not committed is not seen by the other."""
    with second_connection.atomic():
        second_connection.run(Item.objects.create, name="uncommitted")
        assert not Item.objects.exists()
    assert Item.objects.get().name == "uncommitted"


def test_child_process_sees_what_the_test_hands_over(db):
    """A child process runs on the test's database, with the settings that the test chose."""
    show = (
        "import django; django.setup()\n"
        "from django.conf import settings as s\n"
        "print(s.DATABASES['default']['NAME'], s.RELIABLE_TASKS, s.CELERY_TASK_TIME_LIMIT)\n"
    )
    env = child_env(settings={"LEASE_SECONDS": 2.0}, celery={"CELERY_TASK_TIME_LIMIT": 7})
    printed = subprocess.check_output(python("-c", show), env=env, text=True)
    name = connection.settings_dict["NAME"]
    assert printed.strip() == f"{name} {{'LEASE_SECONDS': 2.0}} 7"


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_worker_shares_database_and_broker(worker, pool):
    """A real worker takes a task from the test's broker and writes to the test's database."""
    process = worker(pool=pool)
    write_effect.delay("seen")
    wait_until(Effect.objects.filter(name="seen").exists, message=lambda: process.log)


def test_killed_worker_leaves_no_process(worker):
    """After a kill, neither the worker nor any process of its pool is left."""
    process = worker(pool="prefork", concurrency=2)
    pids = [process.pid, *process.child_pids()]
    assert len(pids) == 3
    process.kill()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_worker_stops_warm(worker):
    """A worker that is asked to stop ends by itself, with status 0."""
    process = worker(pool="prefork", concurrency=1)
    process.terminate()
    assert process.wait() == 0
