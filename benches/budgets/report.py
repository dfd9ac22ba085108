"""The rows of the benchmark, as a table, as JSON, and as a picture."""

import json
import os
import platform
from html import escape


class Report:
    def __init__(self, only):
        self.only = only
        self.rows = []
        self.curves = []
        self.missing_peers = []
        self.failed_benchmarks = []

    def row(self, name, unit, worker, peers=(), budget="", met=None, stable=False):
        """One row. `peers` are pairs of a name and its samples. `met` is None if the row has no budget. `stable` marks a
        figure that does not depend on the machine's load: only those fail the short form."""
        row = {"name": name, "unit": unit, "worker": worker, "peers": list(peers), "budget": budget, "met": met,
               "stable": stable}
        self.rows.append(row)
        print(self.format_row(row), flush=True)

    def curve(self, name, x_unit, unit, points, budget="", met=None):
        """How a figure grows: `points` are pairs of a size and the figure at this size."""
        self.curves.append({"name": name, "x_unit": x_unit, "unit": unit, "points": points, "budget": budget, "met": met})
        points_text = ", ".join(f"{size:,} {x_unit}: {value:.1f} {unit}" for size, value in points)
        print(f"  curve  {name}: {points_text}  [{budget}{verdict(met)}]", flush=True)

    def peer_is_missing(self, peer, why):
        self.missing_peers.append(f"{peer}: {why}")
        print(f"  not measured  {peer}: {why}", flush=True)

    def failure(self, benchmark, why):
        """A benchmark that failed: its budgets count as missed, also in the short form."""
        self.failed_benchmarks.append(benchmark)
        print(f"  FAILED  {benchmark}: {why}", flush=True)

    def format_row(self, row):
        cells = [f"{row['name']:<46}", f"{format_samples(row['worker'], row['unit']):>26}"]
        cells += [f"{name} {format_samples(samples, row['unit'])}" for name, samples in row["peers"]]
        return "  ".join(cells) + (f"  [{row['budget']}{verdict(row['met'])}]" if row["budget"] else "")

    def failed(self, stable_only):
        """The names of the missed budgets and the failed benchmarks. With `stable_only`, only stable rows can miss a budget."""
        judged = [row for row in self.rows + self.curves if row["met"] is False]
        return [row["name"] for row in judged if not stable_only or row.get("stable")] + self.failed_benchmarks

    def json(self):
        def values(samples):
            return {"median": samples.median, "lowest": samples.lowest, "highest": samples.highest,
                    "samples": samples.values}
        rows = [{**row, "worker": values(row["worker"]),
                 "peers": {name: values(samples) for name, samples in row["peers"]}} for row in self.rows]
        machine = {"processors": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()[0]}
        return json.dumps({"machine": machine, "rows": rows, "curves": self.curves, "missing": self.missing_peers,
                           "failed": self.failed_benchmarks}, indent=1)

    def svg(self):
        """Bars of each row that has peers, longest first in its own scale; the worker's bar is dark."""
        rows = [row for row in self.rows if row["peers"]]
        lines, y = [], 24
        for row in rows:
            lines.append(f'<text x="8" y="{y}" class="name">{escape(row["name"])}</text>')
            bars = [("worker", row["worker"])] + row["peers"]
            longest = max(samples.median for _, samples in bars) or 1
            for name, samples in bars:
                y += 17
                width = 380 * samples.median / longest
                kind = "own" if name == "worker" else "peer"
                lines.append(f'<text x="176" y="{y}" class="peer-name">{escape(name)}</text>'
                             f'<rect x="184" y="{y - 10}" width="{width:.1f}" height="12" class="{kind}"/>'
                             f'<text x="{190 + width:.1f}" y="{y}">{escape(format_samples(samples, row["unit"]))}</text>')
            y += 28
        style = ("text{font:12px sans-serif;fill:#222}.name{font-weight:bold}.peer-name{text-anchor:end}"
                 ".own{fill:#1f4e79}.peer{fill:#a9bdd0}svg{background:#fff}")
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {y}" width="760" height="{y}" role="img">'
                f'<title>The worker next to its peers; shorter is better except for MB/s</title><style>{style}</style>'
                f'<rect width="760" height="{y}" fill="#fff"/>' + "\n".join(lines) + "</svg>\n")


def format_samples(samples, unit):
    digits = 0 if samples.median >= 100 else 1 if samples.median >= 10 else 2
    if unit in ("calls", "processes", "instructions", "faults"):
        digits = 0
    text = f"{samples.median:,.{digits}f} {unit}"
    if len(samples.values) > 1:
        text += f" ({samples.lowest:,.{digits}f}-{samples.highest:,.{digits}f})"
    return text


def verdict(met):
    return {None: "", True: ": met", False: ": MISSED"}[met]
