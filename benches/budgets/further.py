"""The benchmarks that are programs of their own: dispatch, the gateway, the built-in agent."""

import os
import re
import subprocess

from measure import ROOT, Samples, missing_program


def dispatch(report, program):
    table(report, program, "dispatch")


def gateway(report, program):
    table(report, program, "gateway")


def table(report, program, name):
    """Runs a benchmark of Rust, which judges its own rows, and repeats its table. It is built without optimization, because it
    only starts and watches the program that is measured."""
    command = ["cargo", "bench", "--quiet", "--profile", "dev", "--bench", name]
    environment = os.environ | {"BENCH_PROGRAM": program}
    ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    rows = re.findall(r"^(\S.*?|  \S.*?)  +([\d.]+) ([\w/]+)  +(?:([\d.]+) \w+(?:\+([\d.]+) \w+)?)?  +(.*)$", ended.stdout, re.M)
    if not rows:
        report.without(name, f"{' '.join(command)} printed no row")
    for what, own, unit, peer, second, budget in rows:
        peers = [("peer", Samples([float(peer)]))] if peer else []
        if second:
            peers.append(("its merges", Samples([float(second)])))
        exceeded = budget.endswith("EXCEEDED")
        budget = budget.removesuffix("EXCEEDED").strip()
        report.row(f"{name}: {what.strip()}", unit, Samples([float(own)]), peers, budget, not exceeded if budget else None)


def agents(report, turns=100, rounds=3):
    """The built-in agent next to mini-swe-agent and Claude Code, on the same scripted conversation."""
    claude = missing_program("claude", ROOT / "target/peers/claude/node_modules/.bin")
    path = os.environ["PATH"]
    if claude is None:
        report.without("Claude Code", "install it: npm install --prefix target/peers/claude @anthropic-ai/claude-code")
    else:
        path = os.path.dirname(claude) + os.pathsep + path
    ended = subprocess.run([ROOT / "benches/agents.sh", str(turns), str(rounds)], env=os.environ | {"PATH": path}, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    print(ended.stdout)
    if ended.returncode != 0:
        report.without("the agents", f"benches/agents.sh ended with {ended.returncode}")
        return
    found = re.search(r"^built-in\b.*?([\d.]+) MiB", ended.stdout, re.M)
    if found:
        value = float(found.group(1))
        report.row(f"peak memory, built-in agent, {turns} turns", "MiB", Samples([value]), budget="12 MiB", met=value <= 12)
