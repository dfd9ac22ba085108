"""The benchmarks that are separate programs: dispatch, the gateway, the built-in agent."""

import os
import re
import subprocess
from dataclasses import dataclass

from measure import ROOT, Samples, find_program

AGENT_MEMORY_BUDGET = 12


@dataclass
class Row:
    """A row of the table that a Rust benchmark prints. `peers` are the values of its column for the peer, which may be empty."""

    name: str
    unit: str
    value: float
    peers: list
    budget: str
    exceeded: bool


def dispatch(report, program):
    table(report, program, "dispatch")


def gateway(report, program):
    table(report, program, "gateway")


def table(report, program, name):
    """Runs a Rust benchmark, which judges its own rows, and repeats its table. It is built without optimization, because it
    only starts and watches the program that is measured."""
    command = ["cargo", "bench", "--quiet", "--profile", "dev", "--bench", name]
    environment = os.environ | {"BENCH_PROGRAM": program}
    finished = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    report_table(report, name, finished.stdout, finished.returncode)


def report_table(report, name, output, returncode):
    """Reports the rows. A benchmark that ends with another exit code than its rows explain counts as a missed budget."""
    try:
        rows = parse_table(output)
    except ValueError as error:
        report.failure(name, str(error))
        return
    for row in rows:
        peers = [(label, Samples([value])) for label, value in zip(("peer", "its merges"), row.peers)]
        report.row(f"{name}: {row.name}", row.unit, Samples([row.value]), peers, row.budget,
                   not row.exceeded if row.budget else None)
    if returncode != 0 and not any(row.exceeded for row in rows):
        report.failure(name, f"the benchmark ended with {returncode}, and no budget is exceeded")
    elif not rows:
        report.failure(name, "the benchmark printed no row")


def parse_table(output):
    """The rows of a Rust benchmark: name, value, value of the peer and budget, with tabs between them. Lines without a tab and
    the line of titles are skipped."""
    rows = []
    for line in output.splitlines():
        if "\t" not in line or not line.partition("\t")[0].strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 4:
            raise ValueError(f"a row has {len(cells)} cells instead of 4: {line!r}")
        name, value, peer, budget = cells
        (value, unit), peers = figure(value), [figure(part)[0] for part in peer.split("+") if part]
        rows.append(Row(name, unit, value, peers, budget.removesuffix("EXCEEDED").strip(), budget.endswith("EXCEEDED")))
    return rows


def figure(cell):
    """The number and the unit of a cell such as `3.5 MiB`."""
    found = re.fullmatch(r"([\d.]+) ([\w/]+)", cell.strip())
    if found is None:
        raise ValueError(f"{cell!r} is not a number with its unit")
    return float(found.group(1)), found.group(2)


def agents(report, program, turns=100, rounds=3):
    """The built-in agent next to mini-swe-agent and Claude Code, on the same scripted conversation."""
    claude = find_program("claude", ROOT / "target/peers/claude/node_modules/.bin")
    path = os.environ["PATH"]
    if claude is None:
        report.peer_is_missing("Claude Code", "install it: npm install --prefix target/peers/claude @anthropic-ai/claude-code")
    else:
        path = os.path.dirname(claude) + os.pathsep + path
    finished = subprocess.run([ROOT / "benches/agents.sh", str(turns), str(rounds)], cwd=ROOT, text=True, check=False,
                           env=os.environ | {"PATH": path, "BENCH_PROGRAM": program},
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(finished.stdout)
    if finished.returncode != 0:
        report.peer_is_missing("the agents", f"benches/agents.sh ended with {finished.returncode}")
        return
    values = parse_agents_memory(finished.stdout)
    if not values:
        report.failure("agents", "benches/agents.sh printed no row `peak memory, MiB`")
        return
    (_, own_memory), *peers = values.items()
    report.row(f"peak memory, built-in agent, {turns} turns", "MiB", Samples([own_memory]),
               [(name, Samples([value])) for name, value in peers], f"{AGENT_MEMORY_BUDGET} MiB", own_memory <= AGENT_MEMORY_BUDGET)


def parse_agents_memory(output):
    """The peak memory of each agent in MiB, from the table of agents_model.py; the built-in agent is the first."""
    titles = re.search(r"^ +(built-in\b.*)$", output, re.M)
    row = re.search(r"^peak memory, MiB +(.*)$", output, re.M)
    if titles is None or row is None:
        return {}
    # A peer's value is followed by its ratio to the first value, in brackets.
    values = re.findall(r"[\d,.]+", re.sub(r"\([^)]*\)", "", row.group(1)))
    return {name: float(value.replace(",", "")) for name, value in zip(titles.group(1).split(), values)}
