"""The throughput of supervised output, next to `cat` and `tee`, and the memory meanwhile."""

import os
import random
import resource
import tempfile
from pathlib import Path

from measure import Project, Receiver, Samples, in_turns, run
from start_up import peak_memory

# The size of the text that the agent prints, in bytes.
TEXT_SIZE = 64 << 20


def measure(report, program, rounds, repetitions=16):
    receiver = Receiver()
    with Project() as project, tempfile.TemporaryDirectory(prefix="descartes-bench-") as directory:
        text = Path(directory) / "text"
        write_text(text)
        dump = f"for n in $(seq {repetitions}); do cat '{text}'; done"
        # In milliseconds, like all durations here.
        empty_run = Samples(run_worker(program, project, receiver, "true")[0] for _ in range(3)).median
        megabytes = TEXT_SIZE * repetitions / 1e6

        def speed(agent, **settings):
            # Without the time of an empty run, so that the figure is that of the output alone.
            duration, _ = run_worker(program, project, receiver, agent, **settings)
            return megabytes / (duration - empty_run) * 1e3

        def shell_speed(filter_command):
            _, duration, _ = run(["/bin/sh", "-c", f"({dump}) | {filter_command} > /dev/null"], {"PATH": path()}, project.project)
            return megabytes / duration * 1e3

        secrets = {"DEPLOY_KEY": private_key()} | {f"SERVICE_{n}_TOKEN": token(n) for n in range(49)}
        one_line = "dd if=/dev/zero bs=1M count=%d 2> /dev/null" % (TEXT_SIZE * repetitions >> 20)
        results = in_turns(rounds, {
            "worker": lambda: speed(dump), "cat": lambda: shell_speed("cat"), "tee": lambda: shell_speed("tee /dev/null"),
            "secrets": lambda: speed(dump, **secrets), "line": lambda: speed(one_line),
        })
        figures = {name: Samples(values) for name, values in results.items()}
        cat, tee = figures["cat"], figures["tee"]
        report.row("1 GiB of lines", "MB/s", figures["worker"], [("cat", cat), ("tee", tee)], "cat",
                   figures["worker"].median >= cat.median)
        report.row("1 GiB of lines, 50 secrets masked", "MB/s", figures["secrets"], [("cat", cat), ("tee", tee)])
        report.row("1 GiB in one line", "MB/s", figures["line"], [("cat", cat)])
        # The processor time is less sensitive to the machine's load. A quarter of the output is enough for it.
        dump_part = f"for n in $(seq {repetitions // 4}); do cat '{text}'; done"
        line_part = "dd if=/dev/zero bs=1M count=%d 2> /dev/null" % (TEXT_SIZE * repetitions >> 22)
        processor = in_turns(rounds, {
            "256 MiB of lines": lambda: processor_time(program, project, receiver, dump_part),
            "256 MiB of lines, 50 secrets": lambda: processor_time(program, project, receiver, dump_part, **secrets),
            "256 MiB in one line": lambda: processor_time(program, project, receiver, line_part),
        })
        for name, values in processor.items():
            report.row(f"processor time, worker and agent, {name}", "ms", Samples(values))
        peak = peak_memory(program, project, receiver, dump)
        report.row("peak memory while 1 GiB is printed", "MiB", Samples([peak]), budget="10 MiB", met=peak <= 10)
    receiver.close()


def run_worker(program, project, receiver, agent, **settings):
    project.reset()
    start, duration, output = run([program], project.environment(receiver, agent, **settings), project.project)
    for _ in range(2):
        receiver.next()
    return duration, output


def processor_time(program, project, receiver, agent, **settings):
    """The processor time in ms of the worker and of the programs that it waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_worker(program, project, receiver, agent, **settings)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def path():
    return os.environ["PATH"]


def token(number):
    return "tok_%032x" % random.Random(number).getrandbits(128)


def private_key():
    line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n"
    return f"-----BEGIN PRIVATE KEY-----\n{line * 26}-----END PRIVATE KEY-----\n"


def write_text(file):
    """Text that looks like the output of a build."""
    with file.open("w", encoding="ascii") as out:
        number = 0
        while out.tell() < TEXT_SIZE:
            out.writelines(
                f"   Compiling some-crate-{n} v1.{n % 40}.0 (/home/user/project/target/debug/deps/{n * 0x9E3779B9:x})\n"
                for n in range(number, number + 1000))
            number += 1000
