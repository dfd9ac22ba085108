"""What the feature `otel` costs: a build with it next to a build without it, with and without a collector."""

import shutil
from pathlib import Path

from counts import count_instructions
from measure import Project, Receiver, Samples, in_turns, run, target
from start_up import peak_memory


def copy(program):
    """A copy that the next build does not replace."""
    copied = target() / "peers" / "bench" / "with-otel"
    copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, copied)
    return str(copied)


def measure(report, without, program, rounds):
    """The figures of `program`, which has the feature, next to those of `without`, a build that does not have it."""
    sizes = [Path(path).stat().st_size / (1 << 20) for path in (program, without)]
    compare(report, "size", "MiB", [sizes[0]], [sizes[1]])
    receiver, collector = Receiver(), Receiver()
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
    if shutil.which("valgrind") is None:
        report.peer_is_missing("instructions with the feature otel", "install valgrind")
    else:
        count = count_instructions(without)
        compare(report, "instructions of an empty run", "instructions", [count_instructions(program)], [count])
        exporting = count_instructions(program, **endpoint)
        expect_exports(collector)
        compare(report, "instructions of an empty run, with a collector", "instructions", [exporting], [count])
    with Project() as project:
        settings = project.environment(receiver, "true")

        def version(path):
            return run([path, "--version"], settings, project.dir)[1]

        def empty_run(path, further, exports):
            project.reset()
            _, duration, _ = run([path], settings | further, project.project)
            if [receiver.next()[1], receiver.next()[1]] != ["started", "completed"]:
                raise SystemExit(f"{path} broke the protocol")
            if exports:
                expect_exports(collector)
            return duration

        def memory(path, further, exports):
            value = peak_memory(path, project, receiver, "true", **further)
            receiver.next(), receiver.next()
            if exports:
                expect_exports(collector)
            return value

        versions = in_turns(rounds, {
            "with": lambda: version(program), "without": lambda: version(without), "again": lambda: version(without)})
        kinds = {"with": (program, {}, False), "collector": (program, endpoint, True), "without": (without, {}, False),
                 "again": (without, {}, False)}
        runs = in_turns(rounds, {name: lambda kind=kind: empty_run(*kind) for name, kind in kinds.items()})
        peaks = in_turns(max(rounds // 5, 3), {name: lambda kind=kind: memory(*kind) for name, kind in kinds.items()})
    receiver.close()
    collector.close()
    for what, unit, results in (("--version", "ms", versions), ("an empty run", "ms", runs),
                                ("peak memory, empty task", "MiB", peaks)):
        compare(report, what, unit, results["with"], results["without"])
        if "collector" in results:
            compare(report, f"{what}, with a collector", unit, results["collector"], results["without"])
        # Two figures of one program differ as well: what is not larger than this is noise.
        ratio(report, "the program without it, next to itself", results["again"], results["without"])


def expect_exports(collector):
    exported = {collector.next()[1], collector.next()[1]}
    if exported != {"traces", "metrics"}:
        raise SystemExit(f"the collector received {exported}")


def compare(report, what, unit, with_feature, without):
    report.row(f"otel: {what}", unit, Samples(with_feature), [("without", Samples(without))])
    ratio(report, "times as much as without it", with_feature, without)


def ratio(report, what, with_feature, without):
    """The ratio of the two figures of each round, because the machine's speed changes between the rounds."""
    report.row(f"  {what}", "times", Samples(a / b for a, b in zip(with_feature, without)))
