"""Prints which promises are kept, and records the broken ones."""

broken = []


def promise(kept, what):
    """Prints and records whether a promise is kept."""
    print(("ok      " if kept else "BROKEN  ") + what)
    if not kept:
        broken.append(what)
