"""Prints the picture of the three actors as an SVG: orchestrator, worker, agent, and the git remote."""

from html import escape

WIDTH, HEIGHT = 900, 400
STYLE = """
text{font:14px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--ink)}
.name{font-size:17px;font-weight:600}
.small{font-size:12.5px;fill:var(--faint)}
.code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}
.box{fill:var(--box);stroke:var(--line);stroke-width:1.5}
.machine{fill:none;stroke:var(--faint);stroke-width:1.2;stroke-dasharray:6 5}
.arrow{stroke:var(--accent);stroke-width:1.8;fill:none}
.head{fill:var(--accent)}
svg{--page:#ffffff;--ink:#1c2430;--faint:#5c6675;--box:#f3f6fb;--line:#9fb0c7;--accent:#2f6fd0}
@media (prefers-color-scheme:dark){svg{--page:#0d1117;--ink:#e3e8ef;--faint:#9aa5b4;--box:#171e29;--line:#4a5a70;--accent:#6fa8ff}}
"""


def text(x, y, words, look="", anchor="middle"):
    return f'<text x="{x}" y="{y}" class="{look}" text-anchor="{anchor}">{escape(words, quote=False)}</text>'


def box(x, y, width, height, name, *lines):
    center = x + width / 2
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="9" class="box"/>']
    parts.append(text(center, y + 30, name, "name"))
    for index, line in enumerate(lines):
        parts.append(text(center, y + 56 + 19 * index, line, "small"))
    return "\n".join(parts)


def arrow(x1, y1, x2, y2, label=None, look="code", label_at=None):
    """A straight arrow, with its label above it: over its middle, or over `label_at`."""
    if x1 == x2:
        step = 8 if y2 > y1 else -8
        head = f"{x2 - 5},{y2 - step} {x2 + 5},{y2 - step} {x2},{y2}"
        end = (x2, y2 - step)
    else:
        step = 8 if x2 > x1 else -8
        head = f"{x2 - step},{y2 - 5} {x2 - step},{y2 + 5} {x2},{y2}"
        end = (x2 - step, y2)
    parts = [f'<path d="M{x1} {y1}L{end[0]} {end[1]}" class="arrow"/><polygon points="{head}" class="head"/>']
    if label:
        parts.append(text(label_at or (x1 + x2) / 2, y1 - 7, label, look))
    return "\n".join(parts)


def main():
    left, middle, right = 20, 408, 698
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-labelledby="t">'
    )
    print('<title id="t">The orchestrator starts a machine with a worker; the worker claims the task, runs the agent, '
          "pushes the work and reports the result.</title>")
    print(f"<style>{STYLE}</style>")
    print(f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="var(--page)"/>')
    # The machine around worker and agent.
    print(f'<rect x="{middle - 18}" y="14" width="{WIDTH - middle + 4}" height="268" rx="12" class="machine"/>')
    print(text(middle - 4, 36, "one machine for one task, thrown away afterwards", "small", "start"))
    print(box(left, 54, 150, 206, "Orchestrator", "decides which", "task runs where"))
    print(box(middle, 54, 150, 206, "Worker", "descartes-worker:", "clones, supervises,", "checks, commits"))
    print(box(right, 54, 172, 124, "Agent", "Claude Code, built-in,", "or any command"))
    print(box(right, 194, 172, 66, "Checks", "the project's own"))
    # Orchestrator and worker.
    a, b = left + 150, middle
    # Over the part of the arrows that is outside the machine.
    at = (a + b - 18) / 2
    print(arrow(a, 92, b, 92, "starts the machine", "small", at))
    print(arrow(b, 136, a, 136, "POST /started", "code", at))
    print(text(at, 151, "claims the task", "small"))
    print(arrow(b, 182, a, 182, "POST /progress", "code", at))
    print(text(at, 197, "heartbeats", "small"))
    print(arrow(b, 228, a, 228, "POST /completed or /failed", "code", at))
    print(text(at, 243, "exactly once", "small"))
    # Worker and agent.
    a, b = middle + 150, right
    print(arrow(a, 100, b, 100, "prompt, variables", "small"))
    print(arrow(b, 144, a, 144, "output, exit code", "small"))
    print(arrow(a, 226, b, 226, "must pass", "small"))
    # Worker and remote.
    print(box(middle, 334, 150, 52, "git remote"))
    print(arrow(middle + 50, 334, middle + 50, 260))
    print(text(middle + 40, 312, "clone", "code", "end"))
    print(arrow(middle + 100, 260, middle + 100, 334))
    print(text(middle + 110, 312, "push a branch", "code", "start"))
    print("</svg>")


if __name__ == "__main__":
    main()
