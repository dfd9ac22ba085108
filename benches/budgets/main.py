"""Measures every budget of the worker next to its peers and to the floor, in turns, in one run.

Exit code 1 says that a budget is missed or that a benchmark failed. The short form judges only sizes, counts and instructions, which do not depend on the
machine's load. Peers that are not installed are named.
"""

import argparse
import os
import subprocess
from pathlib import Path

import counts
import further
import graph
import growth
import https
import output
import repository
import start_up
import telemetry
import test_parsers
from measure import ROOT, target
from report import Report

SECTIONS = ("counts", "start-up", "https", "repository", "graph", "output", "growth", "dispatch", "gateway", "agents",
            "otel")
SHORT = ("counts", "start-up", "repository")


def main():
    parser = argparse.ArgumentParser(prog="benches/run", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a minute instead of half an hour")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="measure only this; may be repeated")
    parser.add_argument("--rounds", type=int, help="how often each program runs (default: 30, or 10 with --short)")
    parser.add_argument("--program", help="measure this program (default: a release build of this checkout)")
    parser.add_argument("--with-otel", metavar="PROGRAM",
                        help="for --only otel: the same program with the feature (default: a release build of this checkout)")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--svg", metavar="FILE", help="draw the rows that have peers")
    options = parser.parse_args()
    test_parsers.check()
    # Relative to where the person is, not to where the programs run.
    files = {name: Path(path).absolute() for name in ("json", "svg") if (path := getattr(options, name))}
    sections = options.only or (SHORT if options.short else SECTIONS)
    with_otel = str(Path(options.with_otel).absolute()) if options.with_otel else None
    if "otel" in sections and with_otel is None:
        # Copied before the other build, which writes to the same path.
        with_otel = telemetry.copy(build("--features", "otel"))
    program = str(Path(options.program).absolute()) if options.program else build()
    rounds = options.rounds or (10 if options.short else 30)
    report = Report(sections)
    print(f"{program}; medians of {rounds} rounds in turns, (lowest-highest); {os.cpu_count()} processors, "
          f"load {os.getloadavg()[0]:.1f}")
    measures = {
        "counts": lambda: counts.measure(report, program),
        "start-up": lambda: start_up.measure(report, program, rounds),
        "https": lambda: https.measure(report, program, rounds),
        "repository": lambda: repository.measure(report, program, rounds),
        "graph": lambda: graph.measure(report, program, max(rounds // 3, 3)),
        "output": lambda: output.measure(report, program, max(rounds // 10, 3)),
        "growth": lambda: growth.measure(report, program),
        "dispatch": lambda: further.dispatch(report, program),
        "gateway": lambda: further.gateway(report, program),
        "agents": lambda: further.agents(report, program),
        "otel": lambda: telemetry.measure(report, program, with_otel, rounds),
    }
    for section in sections:
        measures[section]()
    if "json" in files:
        files["json"].write_text(report.json(), encoding="utf-8")
    if "svg" in files:
        files["svg"].write_text(report.svg(), encoding="utf-8")
    for missing in report.missing_peers:
        print(f"not measured: {missing}")
    failed = report.failed(stable_only=options.short)
    print(f"missed: {', '.join(failed)}" if failed else "every judged budget is met")
    return 1 if failed else 0


def build(*features):
    subprocess.run(["cargo", "build", "--release", *features], cwd=ROOT, check=True)
    return str(target() / "release" / "descartes-worker")


if __name__ == "__main__":
    raise SystemExit(main())
