# SPDX-License-Identifier: GPL-2.0
"""Writes build/report/, and the summary at the end of a run."""

import collections.abc
import html
import re
import xml.etree.ElementTree as xml

from armature import machine
from armature.ktap import Result
from armature.matrix import Boot
from armature.place import REPORT

STYLE = """body{font:14px sans-serif;margin:2em auto;max-width:70em}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.2em .6em;border-bottom:1px solid #ddd;vertical-align:top}
.fail{background:#fdd}.skip{background:#ffc}
pre{background:#f4f4f4;padding:1em;overflow:auto;max-height:40em}"""

Results = collections.abc.Sequence[Result]
Seconds = collections.abc.Mapping[str, float]


def of(results: Results, where: str) -> list[Result]:
    """Returns the results of one boot or step."""
    return [result for result in results if result.where == where]


def tally(results: Results, status: str) -> int:
    """Returns how many results have this status."""
    return sum(result.status == status for result in results)


def printable(text: str) -> str:
    """Returns the text without characters that XML forbids."""
    return re.sub(r"[^\t\n\x20-\ud7ff]", "?", text)


def junit(results: Results, seconds: Seconds) -> None:
    """Writes junit.xml for continuous integration."""
    suites = xml.Element("testsuites")
    for name, took in seconds.items():
        own = of(results, name)
        suite = xml.SubElement(
            suites,
            "testsuite",
            name=name,
            tests=str(len(own)),
            failures=str(tally(own, "fail")),
            skipped=str(tally(own, "skip")),
            time=f"{took:.1f}",
        )
        for result in own:
            case = xml.SubElement(suite, "testcase", classname=name, name=printable(result.name))
            if result.status != "pass":
                kind = "failure" if result.status == "fail" else "skipped"
                xml.SubElement(case, kind, message=printable(result.detail))
    xml.ElementTree(suites).write(REPORT / "junit.xml", encoding="utf-8", xml_declaration=True)


def facts(boot: Boot | None) -> str:
    """Returns a description of a boot, in one line."""
    if not boot:
        return ""
    own = boot.machine
    words = [f"kernel {boot.kernel}", f"cpu {own.cpu}", f"{own.smp} CPUs", own.mode, own.cmdline]
    return ", ".join(word for word in words if word)


def section(name: str, own: list[Result], took: float, about: str) -> list[str]:
    """Returns the section of the page for one boot or step."""
    bad = tally(own, "fail")
    lines = [
        f"<details {'open' if bad else ''}><summary class={'fail' if bad else 'pass'}>"
        f"<b>{html.escape(name)}</b> {len(own) - bad}/{len(own)} in {took:.0f} s — "
        f"{html.escape(about)}</summary><table>"
    ]
    lines += [
        f"<tr class={result.status}><td>{result.status}<td>{html.escape(result.name)}"
        f"<td>{html.escape(result.detail if result.status != 'pass' else '')}"
        for result in own
    ]
    lines.append("</table>")
    for log in ("console.log", "tap.log", "counts.txt"):
        if text := machine.said(REPORT / "boots" / name / log):
            lines.append(
                f"<details><summary>{log}</summary><pre>{html.escape(text)}</pre></details>"
            )
    return lines + ["</details>"]


def page(results: Results, seconds: Seconds, boots: collections.abc.Iterable[Boot]) -> None:
    """Writes index.html, with every result and the console of every boot."""
    described = {boot.name: boot for boot in boots}
    lines = [
        "<!doctype html><meta charset=utf-8><title>Armature: test report</title>",
        f"<style>{STYLE}</style><h1>Test report</h1>",
    ]
    for name, took in seconds.items():
        lines += section(name, of(results, name), took, facts(described.get(name)))
    (REPORT / "index.html").write_text("\n".join(lines))


def summary(results: Results, seconds: Seconds) -> int:
    """Prints the final table; returns 1 if a test has failed, or no test has run."""
    print(f"\n{'where':34} {'passed':>6} {'failed':>6} {'skipped':>7} {'seconds':>8}")
    for name, took in seconds.items():
        counts = [tally(of(results, name), status) for status in ("pass", "fail", "skip")]
        print(f"{name:34} {counts[0]:6} {counts[1]:6} {counts[2]:7} {took:8.0f}")
    for result in results:
        if result.status == "fail":
            detail = result.detail.replace("\n", " | ")[:200]
            print(f"FAILED {result.where}: {result.name}: {detail}")
    if late := sum(result.name == "machine/ran" and result.status == "skip" for result in results):
        print(f"\n{late} boots were left out: no time left")
    print("\nReport: build/report/index.html")
    print(
        ", ".join(
            f"{tally(results, status)} {word}"
            for status, word in (("pass", "passed"), ("fail", "failed"), ("skip", "skipped"))
        )
    )
    return 0 if results and not tally(results, "fail") else 1


def write(results: Results, seconds: Seconds, boots: collections.abc.Iterable[Boot]) -> int:
    """Writes the report and prints the summary; returns its exit status."""
    junit(results, seconds)
    page(results, seconds, boots)
    return summary(results, seconds)
