"""Writes the account for a person to read and to check."""

import textwrap
from collections.abc import Sequence

from example_project.demo.customers import Crowd
from example_project.demo.display import Display
from example_project.demo.place import Place
from example_project.shop.account import Evidence, Finding

USER = PASSWORD = "demo"
_WIDTH = 100  # characters of a line
_INDENT = 38  # of them before a detail


def demo_findings(crowd: Crowd, evidence: Evidence) -> list[Finding]:
    """Check what only the demo knows: what was ordered, and that its blows hit something.

    Args:
        crowd: the customers.
        evidence: what became of their orders.

    Returns:
        More findings for the account.
    """
    known = evidence.orders | evidence.poisoned
    trouble = "; ".join(crowd.failures[:3])
    if crowd.placed != known:
        trouble = trouble or f"the shop has {len(known)} orders, {len(crowd.placed)} were placed"
    return [
        Finding(
            "placed over HTTP",
            len(crowd.placed),
            f"all {crowd.total}, and no other in the shop",
            len(crowd.placed) == crowd.total and crowd.placed == known,
            trouble,
        ),
        Finding("retried", evidence.retried, "some, or nothing failed", evidence.retried > 0),
        Finding("rescued", evidence.rescued, "some, or no kill hit", evidence.rescued > 0),
    ]


def write_account(display: Display, findings: Sequence[Finding], evidence: Evidence) -> None:
    """Print the account.

    Args:
        display: where to.
        findings: its lines.
        evidence: the numbers behind them.
    """
    display.write(f"\n{display.paint('The account', '1')}\n")
    for finding in findings:
        mark = display.good("right") if finding.right else display.bad("WRONG")
        display.write(f"  {finding.subject:<24}{finding.count:>5}  {mark}  {finding.promise}")
        for line in textwrap.wrap(finding.detail, _WIDTH - _INDENT):
            display.write(" " * _INDENT + line)
    display.write(
        f"\n  It took: {evidence.failures} failed attempts (of {evidence.retried} entries) - "
        f"{evidence.rescued} entries rescued from killed processes -\n"
        f"  {evidence.released} attempts released by a stopping worker - {display.seconds:.0f} s"
    )


def write_addresses(display: Display, place: Place, logs: Sequence[str]) -> None:
    """Print where to look.

    Args:
        display: where to.
        place: the run.
        logs: names of the logs.
    """
    rows = [
        ("shop", f"{place.address}/"),
        ("this account, anew", f"{place.address}/account/"),
        ("gateway's own book", f"{place.gateway}/charges"),
        ("admin", f"{place.address}/admin/   (user {USER}, password {PASSWORD})"),
        ("files and logs", f"{place.directory}  ({', '.join(logs)})"),
    ]
    display.write("")
    for name, value in rows:
        display.write(f"  {name:<20}{display.paint(value, '36')}")
