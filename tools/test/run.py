#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boots the machines of matrix/ and reports what was found there.

Runs inside the build root (tools/test/test.sh enters it). KTAP is read with the
kernel tree's own parser, tools/testing/kunit/kunit_parser.py.

    run.py names                     every boot, and every word that a boot is for
    run.py needs [PATTERN]           kernels and tools that a selection needs, a line each
    run.py run [PATTERN]             boot, judge, write build/report/

Environment: CONFIG=debug takes the debug kernel in place of ours; after DEADLINE seconds
since STARTED no further boot begins, and those that are left are reported as skipped; one
that runs has ten minutes more.
"""

import concurrent.futures
import dataclasses
import fnmatch
import html
import os
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as xml

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
BUILD = TOP / "build"
# Where the words of a test's command are looked for.
PROGRAMS = (BUILD / "selftests", BUILD / "bench", BUILD / "perf", TOP / "tools/machine/perf",
            BUILD / "oracle", TOP / "tools/machine/l2")
REPORT = pathlib.Path(os.environ.get("REPORT", BUILD / "report"))
# What a limit of the matrix is multiplied by: it is for a machine that hangs, and hosts differ
# that much in speed.
PATIENCE = 3
# Seconds that a boot which has begun before DEADLINE may go on after it.
GRACE = 600
sys.path[:0] = [str(TOP / "tools/machine"), str(BUILD / "tree/tools/testing/kunit")]
import lie  # noqa: E402
import machine as machines  # noqa: E402
import matrix  # noqa: E402


@dataclasses.dataclass
class Result:
    """One fact that was tested."""
    boot: str
    name: str
    status: str  # pass, fail or skip
    detail: str = ""


def load():
    rows = matrix.load()
    for row in rows:
        row["limit"] = row.get("limit", 120) * PATIENCE * (8 if os.environ.get("CONFIG") == "debug" else 1)
        if row.get("kernel", "armature") == "armature" and os.environ.get("CONFIG") == "debug":
            row["kernel"] = "debug"
    return rows


def select(rows, pattern):
    if not pattern:
        return [row for row in rows if not row.get("apart")]
    if pattern.startswith("="):
        chosen = [row for row in rows if row["name"] == pattern[1:]]
        if not chosen and pattern != "=none":
            sys.exit(f"armature: there is no boot '{pattern[1:]}' in tools/test/matrix")
        compared = {row.get("same") for row in chosen}
        return chosen + [row for row in rows if row["name"] in compared]
    chosen = [row for row in rows
              if any(fnmatch.fnmatch(word, f"*{pattern}*") for word in [row["name"], *row["for"]])]
    if not chosen:
        words = sorted({word for row in rows for word in row["for"]})
        sys.exit(f"armature: ONLY={pattern} matches nothing; it may be part of a boot's name or one of: {', '.join(words)}")
    return chosen


def kernel_dir(variant):
    marker = BUILD / f"kernel-{variant}"
    return pathlib.Path(marker.read_text().strip()) if marker.exists() else BUILD / "obj" / variant


def test_lines(row):
    return [tuple(part.strip() for part in line.split(":", 1)) for line in row.get("tests", [])]


def programs(row):
    """Files that the tests of a boot name, by where they go."""
    files = {}
    for _, command in test_lines(row):
        for word in re.findall(r"(?<![\w./-])[\w-][\w./-]*", command):
            for base in PROGRAMS:
                if (base / word).is_file():
                    there = files.setdefault("/tests.d/" + pathlib.Path(word).name, base / word)
                    assert there == base / word, f"{row['name']}: two programs are called {there.name}"
            if word.endswith(".ko"):
                # "module/" has what `make module` makes.
                base = BUILD if word.startswith("module/") else kernel_dir(row.get("kernel", "armature"))
                files["/" + pathlib.Path(word).name] = base / word
    return files


def guest_command(command):
    """The command as it is called in the machine: programs by their last name."""
    def last(match):
        word = match.group(0)
        if any((base / word).is_file() for base in PROGRAMS):
            return "/tests.d/" + pathlib.Path(word).name
        return "/" + pathlib.Path(word).name if word.endswith(".ko") else word
    return re.sub(r"(?<![\w./-])[\w-][\w./-]*", last, command)


def parse_ktap(text):
    """The test tree of a KTAP text, by the kernel's parser; None if there is no KTAP in it."""
    import kunit_parser
    from kunit_printer import Printer
    import io
    if "KTAP version" not in text:
        return None
    return kunit_parser.parse_run_tests(text.splitlines(), Printer(print=False, output=io.StringIO()))


def leaves(test, path=()):
    """What was tested, and the exit of a program whose own lines are all well."""
    good = ("SUCCESS", "SKIPPED")
    path = path + ((test.name,) if test.name and test.name != "main" else ())
    if not test.subtests:
        yield "/".join(path) or "(a test that did not run)", test
        return
    below = [leaf for child in test.subtests for leaf in leaves(child, path)]
    yield from below
    if test.status.name not in good and all(leaf.status.name in good for _, leaf in below):
        yield "/".join((*path, "(its exit)")), test


def results_of(row, text, prefix=""):
    tree = parse_ktap(text)
    if tree is None:
        return [Result(row["name"], prefix + "ktap", "fail", "no KTAP output")]
    out = []
    for name, test in leaves(tree):
        status = {"SUCCESS": "pass", "SKIPPED": "skip"}.get(test.status.name, "fail")
        detail = "" if status == "pass" else (getattr(test, "skip_reason", "") or "; ".join(test.log[-3:]))
        if status == "skip" and not any(fnmatch.fnmatch(f"{name} {detail}", p) for p in row.get("skips", [])):
            status, detail = "fail", f"skipped, which this machine has no reason for: {detail}"
        out.append(Result(row["name"], prefix + name, status, detail))
    return out


def without_panic(console):
    """The console but for a panic that was asked for, up to the kernel that is booted then."""
    return re.sub(r"sysrq: Trigger a crash.*?(?=\bBye!)", "", console, count=1, flags=re.S)


def judge_log(row, console):
    name = row["name"]
    if row.get("crash"):
        console = without_panic(console)
    splat = machines.SPLAT.search(console)
    line = console[splat.start():].splitlines()[0] if splat else ""
    yield Result(name, "console/no splat", "fail" if splat else "pass", line)
    for pattern in row.get("log", []):
        yield Result(name, f"console/has: {pattern}",
                     "pass" if re.search(pattern, console) else "fail", "the console does not show it")
    for pattern in row.get("nolog", []):
        yield Result(name, f"console/has not: {pattern}",
                     "fail" if re.search(pattern, console) else "pass", "the console shows it")


# What the plugin calls families of classes.
FAMILIES = {"atomics": ("lse", "lse128", "lsui", "lsfe", "rcw"), "ic": ("ic_ivau", "ic_iallu", "ic_ialluis")}


def read_counts(text):
    """The plugin's figures by name: "CLASS", "el E CLASS", and "mark CLASS" summed over all marks."""
    counts = {}
    for line in text.splitlines():
        words = line.split()
        if not words or not words[-1].isdigit() or words[0] == "where":
            continue
        if words[0] == "mark":
            words = ["mark", *words[2:]]
        name = " ".join(words[:-1])
        counts[name] = counts.get(name, 0) + int(words[-1])
    # The plugin sums families for the whole run only, not by mark, exception level or range.
    sums = {}
    for name, figure in counts.items():
        *where, last = name.split()
        for family in (f for f, classes in FAMILIES.items() if where and last in classes):
            key = " ".join((*where, family))
            sums[key] = sums.get(key, 0) + figure
    counts.update(sums)
    return counts


def judge_counts(row, out):
    text = out.read_text() if out.exists() else ""
    counts = read_counts(text)
    for rule in row.get("count", []):
        name, relation, figure = rule.rsplit(" ", 2)
        # A figure that is zero is not printed for each exception level or range, but
        # then those of the whole run are: the class has to be one of them.
        have = counts.get(name, 0 if name.split()[-1] in counts else None)
        if have is None or (name.startswith("mark") and "mark insns" not in counts):
            holds, have = False, "nothing"
        else:
            holds = {"==": have == int(figure), ">": have > int(figure), "<=": have <= int(figure)}[relation]
        detail = "; ".join(line for line in text.splitlines() if line.startswith("where"))[:300]
        yield Result(row["name"], f"executed/{rule}", "pass" if holds else "fail", f"counted {have} {detail}")


def judge_same(row):
    """The console and the tests' output are those of another boot, but for times and what comes
    of them: -icount makes the instructions the same, and the main loop of QEMU goes by the host's clock."""
    where, other = REPORT / "boots" / row["name"], REPORT / "boots" / row["same"]
    for log in ("console.log", "tap.log"):
        mine, theirs = ([re.sub(r"^\[ *\d+\.\d+\]|(?<=Random seed: )0x.*", "", line)
                         for line in (path / log).read_text(errors="replace").splitlines()]
                        if (path / log).exists() else None for path in (where, other))
        differ = next((f"{a!r} and {b!r}" for a, b in zip(mine or [], theirs or []) if a != b), "one ends before the other")
        same = bool(mine) and mine == theirs
        yield Result(row["name"], f"{log} is that of {row['same']}", "pass" if same else "fail", "" if same else differ)


def lie_when_ready(row, socket, tap):
    """Wait until the machine is up and running its tests, then let one CPU lie."""
    cpu, register, field = re.match(r"CPU(\d+) lacks (\w+)\.(\w+)$", row["lie"]).groups()
    limit = int(row["limit"])
    for _ in range(limit * 10):
        if tap.exists() and "# running" in tap.read_text(errors="replace"):
            lie.lie(socket, kernel_dir(row.get("kernel", "armature")), int(cpu), register, field, limit)
            return
        time.sleep(0.1)


def boot_in_time(row, begun):
    """As boot(), unless there is no time left to begin, or to end."""
    deadline = int(os.environ.get("DEADLINE") or 0)
    if not deadline:
        return boot(row)
    late = [Result(row["name"], "machine/ran", "skip", f"no time left after {deadline} s")]
    left = deadline - (time.time() - begun)
    if left < 0:
        return late, 0.0
    cut = left + GRACE < row["limit"]
    results, seconds = boot({**row, "limit": left + GRACE} if cut else row)
    return (late if cut and seconds >= left + GRACE else results), seconds


def boot(row):
    """Boot one machine; its results, and how long it took."""
    name = row["name"]
    where = REPORT / "boots" / name
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    tests = test_lines(row)
    files = programs(row)
    if row.get("image"):
        files["/Image"] = kernel_dir(row.get("kernel", "armature")) / "arch/arm64/boot/Image"
    if row.get("perf"):
        files["/"] = pathlib.Path((BUILD / "perf-root").read_text().strip())
    if row.get("l2"):
        # What a VMM in the machine boots: this kernel, and a program that speaks.
        machines.initramfs(where / "l2", {"/tests": "speaks\techo hello\n"})
        files["/"] = pathlib.Path((BUILD / "vmm-root").read_text().strip())
        files["/l2/initrd"] = where / "l2"
        files["/l2/Image"] = kernel_dir(row.get("kernel", "armature")) / "arch/arm64/boot/Image"
    if tests:
        files["/tests"] = "".join(f"{n}\t{guest_command(c)}\n" for n, c in tests)
    machines.initramfs(where / "initrd", files)
    console, tap, counts = where / "console.log", where / "tap.log", where / "counts.txt"
    plugin = None
    if "plugin" in row:
        plugin = f"{BUILD}/plugins/libopcodes.so,out={counts},{row['plugin']}"
    kernel = kernel_dir(row.get("kernel", "armature")) / "arch/arm64/boot/Image"
    machine = dict(row)
    if row.get("kunit"):
        machine["cmdline"] = f"kunit.enable=1 kunit.autorun=1 {row.get('cmdline', '')}"
    if "lie" in row:
        # A socket's path has to be short, whatever that of the checkout is.
        socket = pathlib.Path(tempfile.mkdtemp()) / "gdb"
        machine["qemu"] = f"-gdb unix:{socket},server=on,wait=off {row.get('qemu', '')}"
        threading.Thread(target=lie_when_ready, args=(row, socket, tap), daemon=True).start()
    started = time.monotonic()
    ended = machines.run(machines.command(machine, kernel, where / "initrd", console, tap, plugin),
                         row["limit"], where / "qemu.log")
    seconds = time.monotonic() - started
    (where / "initrd").unlink()
    (where / "l2").unlink(missing_ok=True)
    said = console.read_text(errors="replace") if console.exists() else ""
    spoke = tap.read_text(errors="replace") if tap.exists() else ""
    results = list(judge_log(row, said))
    if row.get("kunit"):
        results += results_of(row, said, "kunit/")
    if tests:
        results += results_of(row, spoke)
    results += judge_counts(row, counts)
    results += [Result(name, f"{program} (exit)", "fail", f"exit {code}")
                for program, code in re.findall(r"^not ok \d+ (\S+) # exit (.*)$", spoke, re.M)]
    if what := how_it_ended(row, ended, said, spoke):
        results.append(Result(name, "machine/ended", "fail", what))
    return results, seconds


def how_it_ended(row, code, said, spoke):
    """What went wrong with the machine, and in which test; None if it came to its end."""
    if code == 0 and (not test_lines(row) or re.search(r"^# end\r?$", spoke, re.M)):
        return None
    running = re.findall(r"^# running (.*)$", spoke, re.M)
    if not running:
        running = re.findall(r"(?:# Subtest:|\bok \d+) (.*?)\r?$", said, re.M)
    what = (f"no end after {row['limit']:.0f} s" if code is None else
            f"QEMU ended with status {code}" if code else "the machine stopped by itself")
    return f"{what}, in {running[-1] if running else 'the boot'}"


def printable(text):
    """Without what XML has no place for."""
    return re.sub(r"[^\t\n\x20-\ud7ff]", "?", text)


def junit(results, seconds):
    suites = xml.Element("testsuites")
    for name in seconds:
        mine = [r for r in results if r.boot == name]
        suite = xml.SubElement(suites, "testsuite", name=name, tests=str(len(mine)),
                               failures=str(sum(r.status == "fail" for r in mine)),
                               skipped=str(sum(r.status == "skip" for r in mine)),
                               time=f"{seconds[name]:.1f}")
        for r in mine:
            case = xml.SubElement(suite, "testcase", classname=name, name=printable(r.name))
            if r.status != "pass":
                xml.SubElement(case, "failure" if r.status == "fail" else "skipped", message=printable(r.detail))
    xml.ElementTree(suites).write(REPORT / "junit.xml", encoding="utf-8", xml_declaration=True)


def page(results, seconds, rows):
    """build/report/index.html: every result, and the console of every boot."""
    style = ("body{font:14px sans-serif;margin:2em auto;max-width:70em}table{border-collapse:collapse;width:100%}"
             "td,th{text-align:left;padding:.2em .6em;border-bottom:1px solid #ddd;vertical-align:top}"
             ".fail{background:#fdd}.skip{background:#ffc}pre{background:#f4f4f4;padding:1em;overflow:auto;max-height:40em}")
    out = [f"<!doctype html><meta charset=utf-8><title>Armature: test report</title><style>{style}</style><h1>Test report</h1>"]
    described = {row["name"]: row for row in rows}
    for name, took in seconds.items():
        mine = [r for r in results if r.boot == name]
        bad = sum(r.status == "fail" for r in mine)
        row = described.get(name, {})
        facts = ", ".join(f"{k}={row[k]}" for k in ("kernel", "cpu", "mode", "cmdline", "smp") if k in row)
        out.append(f"<details {'open' if bad else ''}><summary class={'fail' if bad else 'pass'}><b>{html.escape(name)}</b> "
                   f"{len(mine) - bad}/{len(mine)} in {took:.0f} s — {html.escape(facts)}</summary><table>")
        out += [f"<tr class={r.status}><td>{r.status}<td>{html.escape(r.name)}<td>{html.escape(r.detail if r.status != 'pass' else '')}" for r in mine]
        out.append("</table>")
        for log in ("console.log", "tap.log", "counts.txt"):
            path = REPORT / "boots" / name / log
            if path.exists():
                out.append(f"<details><summary>{log}</summary><pre>{html.escape(path.read_text(errors='replace'))}</pre></details>")
        out.append("</details>")
    (REPORT / "index.html").write_text("\n".join(out))


def extra_results():
    """Results of the steps that ran before the boots: lines of build/report/steps/*.tap."""
    for path in sorted((REPORT / "steps").glob("*.tap")):
        step = path.stem
        for line in path.read_text(errors="replace").splitlines():
            match = re.match(r"(not ok|ok) \d+ -? ?(.*)", line)
            if match:
                failed = match.group(1) != "ok"
                skipped = "# SKIP" in match.group(2)
                yield Result(step, match.group(2), "skip" if skipped else "fail" if failed else "pass",
                             "see build/log" if failed else "")


def summary(results, seconds):
    print(f"\n{'where':34} {'passed':>6} {'failed':>6} {'skipped':>7} {'seconds':>8}")
    for name in seconds:
        mine = [r.status for r in results if r.boot == name]
        print(f"{name:34} {mine.count('pass'):6} {mine.count('fail'):6} {mine.count('skip'):7} {seconds[name]:8.0f}")
    for r in results:
        if r.status == "fail":
            print(f"FAILED {r.boot}: {r.name}: {r.detail[:200]}")
    total = [r.status for r in results]
    late = sum(r.name == "machine/ran" and r.status == "skip" for r in results)
    if late:
        print(f"\n{late} boots were left out: no time left")
    print("\nReport: build/report/index.html")
    print(f"{total.count('pass')} passed, {total.count('fail')} failed, {total.count('skip')} skipped")
    return 0 if results and not total.count("fail") else 1


def run(rows):
    REPORT.mkdir(parents=True, exist_ok=True)
    results, seconds = list(extra_results()), {}
    for r in results:
        seconds.setdefault(r.boot, 0)
    begun = float(os.environ.get("STARTED", time.time()))
    workers = max(1, int(os.environ.get("JOBS", "2")))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        jobs = {pool.submit(boot_in_time, row, begun): row["name"] for row in rows}
        for count, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            name = jobs[job]
            try:
                found, seconds[name] = job.result()
            except Exception as error:  # the other boots go on
                found, seconds[name] = [Result(name, "machine/ran", "fail", f"{type(error).__name__}: {error}")], 0.0
            results += found
            bad = sum(r.status == "fail" for r in found)
            spent = int(time.time() - begun)
            print(f"[{spent // 60:3}:{spent % 60:02}] boot {count}/{len(rows)}  {name}: "
                  f"{len(found) - bad} of {len(found)} in {seconds[name]:.0f} s{'  FAILED' if bad else ''}",
                  file=sys.stderr, flush=True)
    late = {r.boot for r in results if r.name == "machine/ran" and r.status == "skip"}
    results += [result for row in rows if "same" in row and not late & {row["name"], row["same"]}
                for result in judge_same(row)]
    junit(results, seconds)
    page(results, seconds, rows)
    return summary(results, seconds)


def main():
    verb, pattern = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "")
    if verb == "names":
        print("\n".join(row["name"] for row in load()))
        print("\n".join(sorted({f"for {word}" for row in load() for word in row["for"]})))
        return 0
    rows = select(load(), pattern)
    if verb == "needs":
        needs = {row.get("kernel", "armature") for row in rows}
        needs |= {"model" for row in rows if machines.wants_model(row)}
        needs |= {word for row in rows for word in ("perf", "l2") if row.get(word)}
        needs |= {"module" for row in rows if any(" module/" in line for line in row.get("tests", []))}
        needs |= {"oracle" for row in rows if any(" payload " in line for line in row.get("tests", []))}
        print("\n".join(sorted(needs)))
        return 0
    return run(rows)


if __name__ == "__main__":
    sys.exit(main())
