"""Finding a task in a large graph, next to `scud show`; and growth with the number of tasks."""

from measure import ROOT, Project, Receiver, Samples, in_turns, find_program, run

TASKS = 20_000


def graph_of(count):
    rows = "".join(f"{n} | A task with a title of usual length, number {n} | P | {n % 13 + 1} | M\n" for n in range(1, count + 1))
    edges = "".join(f"{n} -> {n - 1 - n % 7}\n" for n in range(20, count // 2))
    return f"# SCUD Graph v1\n# Phase: bench\n\n@nodes\n{rows}\n@edges\n{edges}"


def measure(report, program, rounds):
    scud = find_program("scud", ROOT / "target/peers/scud/bin")
    if scud is None:
        report.peer_is_missing("scud show", "install it: cargo install scud-cli --locked --root target/peers/scud")
    last = str(TASKS // 2 + 7)
    with Project(graph_of(TASKS), last) as project, Project() as small:
        receiver = Receiver()

        def whole_run(place):
            place.reset()
            _, duration, _ = run([program], place.environment(receiver, "true"), place.project)
            receiver.next(), receiver.next()
            return duration

        programs = {"large": lambda: whole_run(project), "small": lambda: whole_run(small)}
        if scud:
            (project.project / ".scud" / "config.toml").write_text("", encoding="utf-8")
            peer = project.environment(receiver, "true")
            programs["scud"] = lambda: run([scud, "show", last, "--tag", "bench"], peer, project.project)[1]
        results = in_turns(rounds, programs)
        receiver.close()
    # A run reads the graph twice: to find the task, and to mark it as done.
    worker = Samples((large - small) / 2 for large, small in zip(results["large"], results["small"], strict=True))
    peers = [("scud show", Samples(results["scud"]))] if scud else []
    met = worker.median <= peers[0][1].median / 10 if scud else None
    report.row("finding a task among 20,000", "ms", worker, peers, "a tenth of scud show", met)
