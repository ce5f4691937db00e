"""``doctor``: what is wrong, what it means, and what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from ..console.output import Output
from ..console.parsing import Parser
from ..diagnosis import OK, PROBLEM, Finding, examine

NAME: Final = "doctor"
HELP: Final = "what is wrong, what it means, and what to do"

_LEVEL: Final = 8
_CHECK: Final = 11


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--quiet", "-q", action="store_true", help="only what is not well")


def run(options: dict[str, Any], out: Output) -> int:
    """Print the findings; the exit code is 1 if there is a problem."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not out.as_json and not (options["quiet"] and finding.level == OK):
            _print(finding, out)
    problems = sum(finding.level == PROBLEM for finding in findings)
    if out.as_json:
        out.data({"healthy": not problems, "findings": [asdict(each) for each in findings]})
    elif problems:
        out.line()
        out.line("1 problem." if problems == 1 else f"{problems} problems.", out.style.ERROR)
    elif not options["quiet"]:
        out.line()
        out.line("All is well.", out.style.SUCCESS)
    return 1 if problems else 0


def _print(finding: Finding, out: Output) -> None:
    style = {OK: None, PROBLEM: out.style.ERROR}.get(finding.level, out.style.WARNING)
    indent = " " * (_LEVEL + _CHECK + 2)
    level = finding.level.upper() if finding.level != OK else OK
    head = f"{level:<{_LEVEL}} {finding.check:<{_CHECK}} "
    out.paragraph(finding.summary, head, indent, style)
    for text in (finding.meaning, finding.remedy and f"→ {finding.remedy}"):
        if text:
            out.paragraph(text, indent, indent)
