"""Tests of the parsers of other benchmarks' tables, and of the receiver. benches/run runs them first; or run
`python3 -m unittest discover benches/budgets`."""

import contextlib
import io
import unittest

import further
from measure import Receiver
from report import Report

HEAD = f"{'':<48}\t{'gateway':>12}\t{'direct':>12}\tbudget\n"
MEMORY = f"{'  private memory of the gateway':<48}\t{'3.5 MiB':>12}\t{'':>12}\t3 MiB"


def report_of(output, returncode):
    report = Report(())
    with contextlib.redirect_stdout(io.StringIO()):
        further.report_table(report, "gateway", output, returncode)
    return report


class Table(unittest.TestCase):
    def test_an_exceeded_budget_without_a_peer_is_missed(self):
        for line in (
            f"{MEMORY}  EXCEEDED",
            f"{'  peak memory of the dispatcher':<52}\t{'21.0 MiB':>12}\t{'':>12}\t20 MiB  EXCEEDED",
            f"{'dispatch --plan of 2,000 tasks':<52}\t{'1200 ms':>12}\t{'':>12}\t1 s  EXCEEDED",
        ):
            name = f"gateway: {line.partition(chr(9))[0].strip()}"
            report = report_of(f"{HEAD}{line}\n1 budgets are exceeded\n", 101)
            self.assertEqual(report.failed(stable_only=False), [name])
            self.assertEqual(report.rows[0]["peers"], [])

    def test_a_budget_without_a_peer_is_met(self):
        report = report_of(f"{HEAD}{MEMORY}\n", 0)
        self.assertEqual(report.rows[0]["budget"], "3 MiB")
        self.assertIs(report.rows[0]["met"], True)

    def test_a_row_without_a_budget_is_not_judged(self):
        report = report_of(f"{'a body of 64 MiB':<48}\t{'41.20 ms':>12}\t{'30.00 ms':>12}\t\n", 0)
        self.assertIs(report.rows[0]["met"], None)
        self.assertEqual(report.rows[0]["peers"][0][1].values, [30.0])

    def test_both_times_of_the_shell_are_peers(self):
        row, = further.parse_table("200 tasks\t       9.1 s\t12.5 s+10.2 s\ttwice the workers' own time  EXCEEDED")
        self.assertEqual((row.value, row.unit, row.peers), (9.1, "s", [12.5, 10.2]))
        self.assertEqual((row.budget, row.exceeded), ("twice the workers' own time", True))

    def test_a_failed_benchmark_without_an_exceeded_row_fails_also_the_short_form(self):
        for output in ("", f"{HEAD}{MEMORY}\n", "memory\t3 of MiB\t\t3 MiB\n", "memory\t3.5 MiB\t3 MiB\n"):
            self.assertEqual(report_of(output, 101).failed(stable_only=True), ["gateway"])

    def test_a_benchmark_without_rows_fails(self):
        self.assertEqual(report_of(HEAD, 0).failed(stable_only=True), ["gateway"])


class Agents(unittest.TestCase):
    def test_the_peak_memory_of_each_agent_is_found(self):
        output = (
            "built-in descartes-worker 0.1.0\n100 turns, 3 rounds, medians; in brackets how many times built-in's\n\n"
            f"{'':<28}{'built-in':>22}{'mini-swe-agent':>22}{'claude-code':>22}\n"
            f"{'processor time, ms':<28}{'310':>22}{'4,200 (13.5)':>22}{'5,100 (16.5)':>22}\n"
            f"{'peak memory, MiB':<28}{'9.4':>22}{'161 (17.1)':>22}{'1,203 (128.0)':>22}\n")
        self.assertEqual(further.parse_agents_memory(output), {"built-in": 9.4, "mini-swe-agent": 161, "claude-code": 1203})

    def test_a_table_without_memory_has_no_values(self):
        self.assertEqual(further.parse_agents_memory(f"{'':<28}{'built-in':>22}\n"), {})


class ReceiverProcess(unittest.TestCase):
    def test_the_receiver_ends_when_its_output_has_no_reader(self):
        receiver = Receiver()
        self.addCleanup(receiver.close)
        receiver.process.stdout.close()
        self.assertEqual(receiver.process.wait(timeout=60), 0)


def check():
    """Ends the benchmark if a test fails."""
    shown = io.StringIO()
    suite = unittest.defaultTestLoader.loadTestsFromName(__name__)
    if not unittest.TextTestRunner(stream=shown).run(suite).wasSuccessful():
        raise SystemExit(shown.getvalue())
