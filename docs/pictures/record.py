"""Records `descartes-worker demo` in a pseudo terminal and prints the recording as an animated SVG.

Every line appears when the demo printed it. A viewer without CSS animations shows the end of the recording.
"""

import codecs
import fcntl
import os
import pty
import re
import signal
import socket
import struct
import sys
import termios
import time
from html import escape

import pyte

COLUMNS, ROWS = 122, 80
FONT_SIZE, CHARACTER, LINE = 12, 7.2, 17
MARGIN, TITLE = 14, 34
# The demo takes about a second, which is too fast to read: the recording is played this many times slower.
SLOWER = 3
# Seconds that the finished recording stays before it starts again.
PAUSE = 15
# Seconds after which a demo that hangs is given up.
LIMIT = 60

BACKGROUND, FOREGROUND, FAINT = "#16181d", "#d5d9e0", "#7f8796"
COLORS = {
    "red": "#f0717b",
    "green": "#7fd18b",
    "brown": "#e5c07b",
    "yellow": "#e5c07b",
    "blue": "#77aaff",
    "magenta": "#c792ea",
    "cyan": "#66c7d8",
}


def record(program):
    """Runs the demo; returns the screen and, for every moment at which it changed, its lines."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    decoder = codecs.getincrementaldecoder("utf-8")()
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}
        os.execve(program, [program, "demo"], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    signal.alarm(LIMIT)
    began, moments = time.monotonic(), []
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        stream.feed(decoder.decode(data))
        moments.append((time.monotonic() - began, [line.rstrip() for line in screen.display]))
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"the demo ended with exit code {os.waitstatus_to_exitcode(status)}")
    return screen, moments


def spans(screen, row):
    """The text of a row in pieces of one look: (text, color, bold, faint)."""
    pieces = []
    for column in range(COLUMNS):
        cell = screen.buffer[row][column]
        look = (COLORS.get(cell.fg, FOREGROUND), cell.bold)
        if pieces and pieces[-1][1:] == look:
            pieces[-1] = (pieces[-1][0] + cell.data, *look)
        else:
            pieces.append((cell.data, *look))
    if pieces and not pieces[-1][0].strip():
        pieces.pop()
    if pieces:
        pieces[-1] = (pieces[-1][0].rstrip(), *pieces[-1][1:])
    return pieces


def neutral(text):
    """Leaves out what belongs to the machine of the recording: its name and the random directory."""
    text = re.sub(r"/[\w/.-]*descartes-demo-\w+", "/tmp/descartes-demo-a1B2c3", text)
    return text.replace(f" on {socket.gethostname()}", " on my-laptop")


def colored(text, look):
    """Colors of a diff, which the demo prints plainly."""
    color, bold = look
    if text.startswith(("+++", "---", "diff ", "index ")):
        return FAINT, True
    if text.startswith("@@"):
        return COLORS["cyan"], False
    if text.startswith("+"):
        return COLORS["green"], bold
    if text.startswith("-"):
        return COLORS["red"], bold
    return color, bold


def main():
    screen, moments = record(sys.argv[1])
    end = moments[-1][0]
    final = moments[-1][1]
    rows = max(row for row, line in enumerate(final) if line) + 1
    # A line appears when the screen first holds it in its final form.
    appears = []
    for row in range(rows):
        since = end
        for at, lines in reversed(moments):
            if lines[row] != final[row]:
                break
            since = at
        appears.append(since * SLOWER)
    total = end * SLOWER + PAUSE
    width = COLUMNS * CHARACTER + 2 * MARGIN
    height = (rows + 2) * LINE + TITLE + MARGIN

    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" '
        'aria-label="A terminal in which descartes-worker demo runs">'
    )
    print("<title>descartes-worker demo</title>")
    print(
        f"<style>text{{font:{FONT_SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        f"fill:{FOREGROUND};white-space:pre}}.b{{font-weight:600}}"
    )
    for at in sorted(set(appears)):
        percent = 100 * at / total
        name = f"a{at * 1000:.0f}"
        print(
            f"@keyframes {name}{{0%{{opacity:0}}{percent:.2f}%{{opacity:0}}{percent + 0.01:.2f}%{{opacity:1}}}}"
            f".{name}{{animation:{name} {total:.2f}s linear infinite}}"
        )
    print("@media (prefers-reduced-motion:reduce){text{animation:none !important}}</style>")
    print(f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>')
    for index, color in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        print(f'<circle cx="{20 + 18 * index}" cy="18" r="5.5" fill="{color}"/>')
    y = TITLE + LINE
    print(f'<text x="{MARGIN}" y="{y}" xml:space="preserve"><tspan fill="{COLORS["green"]}">$</tspan> descartes-worker demo</text>')
    in_diff = False
    for row in range(rows):
        y += LINE
        pieces = spans(screen, row)
        if not pieces:
            continue
        in_diff = in_diff or final[row].startswith("diff --git")
        column, parts = 0, []
        for piece, *look in pieces:
            color, bold = colored(piece, look) if in_diff else look
            if piece.strip():
                # Every piece has its own position, so that the columns hold whatever the font's width is.
                x = MARGIN + column * CHARACTER
                fill = "" if color == FOREGROUND else f' fill="{color}"'
                weight = ' class="b"' if bold else ""
                shown = escape(neutral(piece), quote=False)
                parts.append(f'<tspan x="{x:.1f}"{fill}{weight}>{shown}</tspan>')
            column += len(piece)
        name = f"a{appears[row] * 1000:.0f}"
        print(f'<text y="{y}" class="{name}" xml:space="preserve">{"".join(parts)}</text>')
    print("</svg>")


if __name__ == "__main__":
    main()
