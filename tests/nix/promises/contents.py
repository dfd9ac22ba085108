"""Checks an image without running anything: configuration, owners, modes, links, layers."""

import json
import re
import time

from archive import is_program
from report import promise

# The programs on the PATH of every image except the minimal one, whose programs are in MINIMAL.
PROGRAMS = """awk bash bwrap cat curl descartes-worker diff env file find git grep gzip jq less ls patch ps rg sed sh ssh tar
    unzip which xargs xz""".split()
MINIMAL = "awk bash cat descartes-worker diff env find git grep gzip less ls patch ps sed sh tar which xargs".split()
COMPILERS = "as c++ cc clang g++ gcc ld rustc".split()


def inspect(image, options):
    """Checks the archive without running anything."""
    config = image.config["config"]
    environment = dict(pair.split("=", 1) for pair in config["Env"])
    inspect_archive(image)
    inspect_labels(config, environment, options)
    inspect_variables(image, environment, options)
    inspect_user(image, config, environment, options)
    inspect_programs(image, environment, options)
    inspect_files(image)


def inspect_archive(image):
    config = image.config["config"]
    promise(list(image.digests()) == image.config["rootfs"]["diff_ids"], "the layers are those the configuration names")
    promise(len(image.layers) <= 100, f"{len(image.layers)} layers are at most 100")
    promise(image.config["os"] == "linux", "os is linux")
    # Files have the year 1970 in the layers of the store, 1980 in the topmost one. With the commit's time, every commit would
    # change every layer.
    promise(image.newest_time < 1 << 30, f"no file has the time of the commit or the build; the newest is of {time.strftime('%Y', time.gmtime(image.newest_time))}")
    promise(re.fullmatch(r"[0-9T:+Z-]{19,25}", image.config["created"]) is not None, f"created is a date: {image.config['created']}")
    promise(config["User"] == "1000:1000", "the user is 1000:1000, by number")
    promise(config["Entrypoint"] == ["/app/descartes-worker"] and not config.get("Cmd"), "the entrypoint is the worker, without a command")


def inspect_labels(config, environment, options):
    labels = config["Labels"]
    promise(all(isinstance(value, str) for value in labels.values()), "every label is a string")
    of_project = options.version is not None
    for label in ["title", "version"] if of_project else ["title", "version", "description", "licenses"]:
        promise(bool(labels.get(f"org.opencontainers.image.{label}")), f"label {label}: {labels.get(f'org.opencontainers.image.{label}')}")
    promise(bool(labels.get("descartes-worker.version")), f"a label says the version of the worker: {labels.get('descartes-worker.version')}")
    if of_project:
        promise(labels["org.opencontainers.image.version"] == options.version, f"the version is the project's: {options.version}")
    # Both are missing if the flake is not a git checkout.
    revision = labels.get("descartes-worker.revision")
    promise(environment.get("DESCARTES_REVISION") == revision, f"the worker knows the revision of the label: {revision}")


def inspect_variables(image, environment, options):
    for variable in options.variable:
        name, value = variable.split("=", 1)
        promise(environment.get(name) == value, f"{name} is {value!r}")
        promise(name in environment.get("DESCARTES_AGENT_ENV", "").split(","), f"the agent may see {name}")
    agents = json.loads(image.text(environment["DESCARTES_AGENT_ENV_FILE"]))
    for variable in options.agents_variable:
        name, value = variable.split("=", 1)
        promise(agents.get(name) == value, f"{name} is {value!r} for the agent")
        promise(name not in environment, f"{name} is not in the image's configuration")
    promise(not [name for name in environment if name.startswith("LD_")], "no variable of the configuration decides which libraries the worker loads")
    authorities = [name for name in environment if re.search("CERT|CAINFO|CA_BUNDLE", name)]
    promise(authorities == ["SSL_CERT_FILE"], f"SSL_CERT_FILE is the only variable with authorities: {', '.join(authorities)}")


def inspect_user(image, config, environment, options):
    for name in ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/gitconfig", "/etc/os-release"):
        found = image.files.get(name)
        promise(found is not None and found[1].isreg() and found[1].mode & 0o777 == 0o644 and found[1].uid == 0, f"{name} is a regular file that belongs to root")
    users = {line.split(":")[2]: line.split(":") for line in image.text("/etc/passwd").splitlines()}
    promise("0" in users and is_program(image.get(users["0"][6])), "root has a shell")
    user = users.get("1000")
    promise(user is not None, "passwd knows user 1000")
    if user:
        promise(environment["USER"] == user[0] and environment["HOME"] == user[5] and environment["SHELL"] == user[6], "USER, HOME and SHELL have the values from passwd")
        promise(is_program(image.get(user[6])), f"{user[6]} exists")
        promise(f"{user[0]}:x:{user[3]}:" in image.text("/etc/group"), "group knows the user's group")
        directories = [f"{user[5]}/{name}" for name in (".cache", ".config", ".local", ".local/share", ".local/state")]
        for path in (user[5], config["WorkingDir"], *directories, *options.directory):
            home = image.get(path)
            promise(home is not None and home.isdir() and home.uid == 1000 and home.mode & 0o700 == 0o700, f"the user owns {path}")
    tmp = image.get("/tmp")
    promise(tmp is not None and tmp.isdir() and tmp.mode & 0o7777 == 0o1777 and tmp.uid == 0, "/tmp is 1777")
    etc = image.files.get("/etc")
    promise(etc is not None and etc[1].isdir() and etc[1].mode & 0o700 == 0o700, "/etc is a directory that root may write to")


def inspect_programs(image, environment, options):
    programs = MINIMAL if options.minimal else PROGRAMS
    for path in ("/bin/sh", "/usr/bin/env", "/app/worker", "/app/descartes-worker"):
        promise(is_program(image.get(path)), f"{path} is a program")
    layer, member, _ = image.files["/app/descartes-worker"]
    promise(layer == len(image.layers) - 1 and member.isreg(), "the worker is a file of the topmost layer")
    promise(not [path for path in image.files if re.match(r"/nix/store/[^/]*-descartes-worker-[0-9]", path)], "no other layer has the worker")

    path = environment["PATH"].split(":")
    found = {name: next((where for where in path if is_program(image.get(f"{where}/{name}"))), None) for name in programs + COMPILERS + options.program}
    for name in programs + options.program:
        promise(found[name] is not None, f"{name} is on the PATH")
    if options.no_compiler:
        promise(not [name for name in COMPILERS if found[name]], "no compiler is on the PATH")
        promise(not [name for name in image.files if re.match(r"/nix/store/[^/]*-(gcc|clang|rustc)(-wrapper)?-[0-9.]+$", name)], "no compiler is in the store")

    promise("BEGIN CERTIFICATE" in image.text(environment["SSL_CERT_FILE"]), "SSL_CERT_FILE is a bundle of authorities")
    promise("BEGIN CERTIFICATE" in image.text("/etc/ssl/certs/ca-certificates.crt"), "ca-certificates.crt is one too")


def inspect_files(image):
    top = len(image.layers) - 1
    dangling = [name for name, (number, member, _) in image.files.items() if number == top and member.issym() and image.resolve(name) is None]
    promise(not dangling, f"no link of the topmost layer leads nowhere{': ' if dangling else ''}{', '.join(dangling[:5])}")
    privileged = [name for name, (_, member, _) in image.files.items() if member.isreg() and member.mode & 0o6000]
    promise(not privileged, "no program is setuid or setgid")
    foreign = [name for name, (_, member, _) in image.files.items() if not member.issym() and name != "/tmp" and member.mode & 0o002]
    promise(not foreign, "nothing but /tmp is writable for everybody")
