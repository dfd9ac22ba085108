"""Reads a docker archive."""

import hashlib
import json
import os
import posixpath
import shutil
import stat
import tarfile


def absolute(name):
    """The absolute path of an archive member, which the archive may call `a`, `./a` or `/a`; never outside the image."""
    return posixpath.normpath("/" + name.lstrip("/"))


class Image:
    """A docker archive: the files of all its layers, where later layers replace files of earlier ones."""

    def __init__(self, path):
        self.archive = tarfile.open(path)
        self.manifest = json.load(self.archive.extractfile("manifest.json"))[0]
        self.config = json.load(self.archive.extractfile(self.manifest["Config"]))
        self.layers = self.manifest["Layers"]
        # For every path: the number of the last layer that has it, the archive member, and the content of small files.
        self.files = {}
        self.newest_time = 0
        for number, layer in enumerate(self.layers):
            with tarfile.open(fileobj=self.archive.extractfile(layer)) as tar:
                for member in tar:
                    self.newest_time = max(self.newest_time, member.mtime)
                    text = b""
                    if member.isreg() and member.size < 1 << 20:
                        text = tar.extractfile(member).read()
                    self.files[absolute(member.name)] = (number, member, text)

    def digests(self):
        for layer in self.layers:
            with self.archive.extractfile(layer) as file:
                yield "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

    def resolve(self, path):
        """The path after following all links; None if it does not exist."""
        resolved = "/"
        rest = [part for part in path.split("/") if part]
        for _ in range(1000):
            if not rest:
                return resolved
            part = rest.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                resolved = posixpath.dirname(resolved)
                continue
            here = posixpath.join(resolved, part)
            if here not in self.files:
                return None
            member = self.files[here][1]
            if member.issym():
                rest = member.linkname.split("/") + rest
                if member.linkname.startswith("/"):
                    resolved = "/"
            else:
                resolved = here
        return None

    def get(self, path):
        found = self.resolve(path)
        return self.files[found][1] if found and found != "/" else None

    def text(self, path):
        found = self.resolve(path)
        return self.files[found][2].decode() if found and found != "/" else ""

    def unpack(self, target_root):
        """Unpacks all layers as an ordinary user: the user owns every file, and can write to every directory."""
        # A container's platform mounts file systems on the last three.
        for name in ("", "/proc", "/dev", "/sys"):
            os.makedirs(target_root + name, exist_ok=True)
        for layer in self.layers:
            with tarfile.open(fileobj=self.archive.extractfile(layer)) as tar:
                for member in tar:
                    target = target_root + absolute(member.name)
                    if os.path.lexists(target) and not (member.isdir() and not os.path.islink(target)):
                        os.unlink(target)
                    if member.isdir():
                        os.makedirs(target, exist_ok=True)
                    elif member.issym():
                        os.symlink(member.linkname, target)
                    elif member.islnk():
                        os.link(target_root + absolute(member.linkname), target)
                    else:
                        with open(target, "wb") as file:
                            shutil.copyfileobj(tar.extractfile(member), file)
                        os.chmod(target, member.mode | stat.S_IWUSR)


def is_program(member):
    return member is not None and member.isreg() and member.mode & 0o111 == 0o111
