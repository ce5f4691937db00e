"""The admin's pages in a real browser, under a strict policy."""

import pytest

from reliable_tasks.states import State
from tests import entries


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_list_and_the_page_of_an_entry(open_browser, staff, scheme):
    """The list leads to an entry's page; neither has anything inline or missing."""
    dead = entries.in_state(State.DEAD)
    page = open_browser(staff("view_entry"), color_scheme=scheme)
    page.goto("/admin/reliable_tasks/entry/")
    page.get_by_role("link", name="tests.app.tasks.add").click()
    page.wait_for_url(f"**/{dead}/change/**")
    page.get_by_text("app.errors.GatewayDown: 503").first.wait_for()
