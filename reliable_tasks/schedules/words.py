"""Due times in words."""

from __future__ import annotations

from django_celery_beat.models import PeriodicTask

_NONE = "No due times: it has no crontab, interval, solar event or clocked time."


def describe(schedule: PeriodicTask) -> str:
    """Return a schedule's due times in words, with the time zone: "At 02:30, Europe/Berlin"."""
    if schedule.crontab is not None:
        zone = str(schedule.crontab.timezone)
        words = str(schedule.crontab.human_readable).removesuffix(zone).strip()
        return f"{words}, {zone}"
    if schedule.interval is not None:
        return str(schedule.interval).capitalize()
    if schedule.solar is not None:
        solar = schedule.solar
        return f"{solar.get_event_display()} at {solar.latitude}, {solar.longitude}"
    if schedule.clocked is not None:
        return f"Once, at {schedule.clocked.clocked_time.isoformat(sep=' ')}"
    return _NONE
