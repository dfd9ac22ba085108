"""Checks everything that docs/nix.md promises about an image, on a docker archive of the image.

    python3 tests/nix/promises ARCHIVE

First it reads the archive: configuration, owners, modes, links, layers. Then it runs the image's programs in the image's
file system, as the image's user, under bubblewrap. It prints a line for every promise; the exit code is 1 if one is broken.
"""

import argparse
import os
import sys
import tempfile

from agent import check_agent
from archive import Image
from authorities import check_authorities
from contents import inspect
from programs import check_command_agent, check_demos, check_nix, check_sigterm, check_tools
from report import broken
from sandbox import Sandbox


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", help="what `docker save` or a Nix image's stream writes")
    parser.add_argument("--no-compiler", action="store_true", help="the image must have no compiler")
    parser.add_argument("--minimal", action="store_true", help="the image has only the programs of the minimal base")
    parser.add_argument("--version", help="the version of a project's image")
    parser.add_argument("--nix", action="store_true", help="the agent must be able to use Nix")
    parser.add_argument("--foreign", help="a program for other distributions, which must run")
    parser.add_argument("--directory", action="append", default=[], help="a further directory that must belong to the user")
    parser.add_argument("--agents-program", action="append", default=[], help="a program that only the agent must find")
    parser.add_argument("--agents-variable", action="append", default=[], help="NAME=VALUE, which the agent must see and the image must not set")
    parser.add_argument("--program", action="append", default=[], help="a further program that must be on the PATH and know --version")
    parser.add_argument("--variable", action="append", default=[], help="NAME=VALUE, which the image must set and the agent must see")
    parser.add_argument("--agent", default="builtin", help="the agent that the worker must choose if there is a key")
    options = parser.parse_args()
    image = Image(options.archive)
    inspect(image, options)
    with tempfile.TemporaryDirectory() as scratch:
        root = os.path.join(scratch, "root")
        image.unpack(root)
        sandbox = Sandbox(image, root)
        check_demos(sandbox)
        check_tools(sandbox, options)
        check_command_agent(sandbox, options)
        if options.nix:
            check_nix(sandbox)
        check_agent(sandbox, options.agent)
        check_sigterm(sandbox)
        check_authorities(image, sandbox, scratch)
    print(f"{len(broken)} broken promises")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
