"""The pages for those who use no mouse, see little, or hear a page read to them."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from reliable_tasks import ledger, operations, overview
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.models import OperatorAct
from reliable_tasks.operations import Act, Chosen
from reliable_tasks.states import State
from tests import entries
from tests.browser.test_acts import DEAD, LIST, die, touched

#: What a WCAG 2.1 AA page needs between text and its ground.
LEAST, LEAST_LARGE = 4.5, 3.0
PAGES = (
    *("entries", "dead letters", "entry, dead", "entry, waiting", "requeue", "edit", "cancel"),
    *("pauses", "pause", "resume", "operations", "operation", "stop", "acts", "act"),
    *("workers", "worker", "overview"),
)
CONTRAST = """() => {
    const read = text => {
        const found = text.match(/[\\d.]+/g).map(Number);
        const scale = text.startsWith('color(') ? 255 : 1;
        const [r, g, b, a] = found;
        return [r * scale, g * scale, b * scale, a === undefined ? 1 : a];
    };
    const over = (top, under) => {
        const [r, g, b, a] = top;
        return [r, g, b].map((value, n) => value * a + under[n] * (1 - a)).concat(1);
    };
    const bright = colour => {
        const [r, g, b] = colour.map(value => value / 255).map(
            value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
        );
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const line = element => element ? [...line(element.parentElement), element] : [];
    const ground = element => line(element).reduce(
        (under, each) => over(read(getComputedStyle(each).backgroundColor), under),
        [255, 255, 255, 1]
    );
    const faint = element => line(element).reduce(
        (part, each) => part * Number(getComputedStyle(each).opacity), 1
    );
    const found = [];
    const walk = document.createTreeWalker(
        document.querySelector('#content'), NodeFilter.SHOW_TEXT
    );
    while (walk.nextNode()) {
        const element = walk.currentNode.parentElement;
        const text = walk.currentNode.textContent.trim();
        if (!text || !element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}))
            continue;
        if (element.closest('option, datalist, .reliable-tasks-hidden, [disabled]')) continue;
        const style = getComputedStyle(element);
        const under = ground(element);
        const ink = read(element instanceof SVGElement ? style.fill : style.color);
        ink[3] *= faint(element);
        const [one, two] = [bright(over(ink, under)), bright(under)];
        const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        found.push([ratio, large, `${element.tagName}.${element.className} ${text.slice(0, 40)}`]);
    }
    return found;
}"""


@pytest.fixture
def addresses(transactional_db):
    """Write a ledger with something for each page, and return the pages' addresses."""
    ours = "/admin/reliable_tasks"
    at = overview.now() - timedelta(minutes=1)
    dead, gone = die(), die(fingerprint="f" * 16)
    waits = entries.enqueue(queue="mail", now=None)
    entries.reschedule(entries.running(now=at), now=at, delay=600)
    ledger.succeed(entries.running(now=at), now=at + timedelta(seconds=1))
    operations.discard([gone], "The customer left.", by="ann")
    operations.pause("queue", "mail", "The mail server is down.", by="ann")
    begun = operations.begin(
        Act.REQUEUE, Chosen(states=("dead",)), "It is back.", by="ann", rate=1.0
    )
    worker = WorkerReport("celery@web1#a", "celery@web1", 7, "prefork", 4, ["celery"], {"c": "5"})
    ledger.beat(worker)
    silent = WorkerReport("celery@web2#b", "celery@web2", 7, "prefork", 4, ["celery"], {"c": "5"})
    ledger.beat(silent, now=overview.now() - timedelta(minutes=9))
    operation = f"{ours}/operation/{begun.operation}"
    pause = next(iter(overview.pauses()))
    act = OperatorAct.objects.get(act="discard")
    return {
        "entries": f"{LIST}?since=2020-01-01T00:00&subject_id=1&subject_type=x",
        "dead letters": DEAD,
        "entry, dead": f"{LIST}{dead}/change/",
        "entry, waiting": f"{LIST}{waits}/change/",
        "requeue": f"{LIST}act/requeue/?state=dead",
        "edit": f"{LIST}act/edit/?id={dead}",
        "cancel": f"{LIST}act/cancel/?state=pending",
        "pauses": f"{ours}/pause/",
        "pause": f"{ours}/pause/pause/",
        "resume": f"{ours}/pause/{pause.pk}/resume/",
        "operations": f"{ours}/operation/",
        "operation": f"{operation}/change/",
        "stop": f"{operation}/steer/?to=stop",
        "acts": f"{ours}/operatoract/",
        "act": f"{ours}/operatoract/{act.pk}/change/",
        "workers": f"{ours}/workerprocess/",
        "worker": f"{ours}/workerprocess/celery_40web1_23a/change/",
        "overview": f"{ours}/overview/",
    }


def test_each_page_is_there(addresses):
    """The pages that these tests look at are those that they name."""
    assert set(addresses) == set(PAGES)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(open_browser, staff, addresses, scheme):
    """On each page all text has the contrast of WCAG AA, in light and in dark."""
    page = open_browser(staff(is_superuser=True, username="root"), color_scheme=scheme)
    faint = []
    for name, address in addresses.items():
        page.goto(address)
        found = page.evaluate(CONTRAST)
        assert found, name
        for ratio, large, where in found:
            if ratio < (LEAST_LARGE if large else LEAST) - 0.01:
                faint.append(f"{name}: {ratio:.2f} {where}")
    assert faint == []


def test_pages_have_an_outline(page, addresses):
    """Each page has a title, one main heading, and headings that skip no level."""
    for name, address in addresses.items():
        page.goto(address)
        levels = page.evaluate(
            """() => [...document.querySelectorAll(
                '#content h1, #content h2, #content h3, #content h4, #content h5'
            )].map(each => Number(each.tagName[1]))"""
        )
        assert levels.count(1) == 1, (name, levels)
        assert levels[0] == 1, (name, levels)
        steps = [b - a for a, b in pairwise(levels)]
        assert max(steps, default=0) <= 1, (name, levels)
        assert page.title(), name


def test_what_is_shown_is_named(page, addresses):
    """Fields, buttons, links, tables and pictures have names; no id is there twice."""
    for name, address in addresses.items():
        page.goto(address)
        nameless = page.evaluate(
            """() => [...document.querySelector('#content').querySelectorAll(
                'input:not([type=hidden]), select, button, a[href], textarea, svg, progress'
            )].filter(each => !(
                (each.labels && each.labels.length) || each.getAttribute('aria-label')
                || each.getAttribute('aria-labelledby') || each.title || each.textContent.trim()
                || (each.type === 'submit' && each.value) || each.closest('label')
                || each.closest('[aria-hidden=true]')
            )).map(each => each.outerHTML.slice(0, 200))"""
        )
        assert nameless == [], name
        twice = page.evaluate(
            """() => [...document.querySelectorAll('[id]')].map(each => each.id).filter(
                (id, place, all) => all.indexOf(id) !== place
            )"""
        )
        assert twice == [], name
        dangling = page.evaluate(
            """() => [...document.querySelectorAll('[aria-describedby], [aria-labelledby], [for]')
            ].flatMap(each => ['aria-describedby', 'aria-labelledby', 'for'].flatMap(
                kind => (each.getAttribute(kind) || '').split(' ').filter(Boolean)
            )).filter(id => !document.getElementById(id))"""
        )
        assert dangling == [], name


def test_focus_goes_as_the_page_reads(page, addresses):
    """Nothing on a page takes the focus out of its turn, and what has it shows that."""
    for name, address in addresses.items():
        page.goto(address)
        early = page.evaluate("document.querySelectorAll('#content [tabindex]').length")
        jumps = page.evaluate(
            """() => [...document.querySelectorAll('#content [tabindex]')].filter(
                each => Number(each.getAttribute('tabindex')) > 0
            ).length"""
        )
        assert jumps == 0, (name, early)
    page.goto(addresses["requeue"])
    page.get_by_role("button", name="Requeue", exact=True).focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    outline = page.evaluate(
        """() => { const style = getComputedStyle(document.activeElement);
            return [document.activeElement.value, style.outlineStyle, style.backgroundColor,
                    style.boxShadow] }"""
    )
    assert outline[0] == "Requeue"
    page.mouse.click(2, 2)
    rest = page.evaluate(
        """() => { const style = getComputedStyle(document.querySelector('[type=submit].default'));
            return ['Requeue', style.outlineStyle, style.backgroundColor, style.boxShadow] }"""
    )
    assert outline != rest


def tab_to(page, wanted, most=200):
    """Press Tab until what has the focus is what is wanted."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(f"(() => {{ const e = document.activeElement; return {wanted} }})()"):
            return
    raise AssertionError(f"no Tab leads to {wanted}")


def test_from_the_index_to_the_act_by_keyboard_alone(page):
    """From the admin's first page, a selected dead letter is discarded without a mouse."""
    first, second = die(), die()
    page.goto("/admin/")
    tab_to(page, "e.tagName === 'A' && e.pathname.endsWith('/reliable_tasks/entry/')")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{LIST}**")
    tab_to(page, "e.tagName === 'A' && e.search.includes('state=dead')")
    page.keyboard.press("Enter")
    page.wait_for_url("**state=dead**")
    tab_to(page, "e.name === 'action'")
    page.keyboard.type("Discard")
    tab_to(page, f"e.name === '_selected_action' && e.value === '{second}'")
    page.keyboard.press("Space")
    for _ in range(200):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.name") == "index":
            break
    page.keyboard.press("Enter")
    page.get_by_label("Reason").wait_for()
    tab_to(page, "e.name === 'reason'")
    page.keyboard.type("By keyboard.")
    tab_to(page, "e.type === 'submit'")
    page.keyboard.press("Enter")
    page.locator(".messagelist").wait_for()
    assert [entries.state(pk) for pk in (first, second)] == [State.DEAD, State.CANCELLED]
    act = OperatorAct.objects.get()
    assert (act.act, act.reason) == ("discard", "By keyboard.")
    assert touched(act) == {(second, "discarded")}
