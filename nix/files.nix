# The files in an image's /etc. Files, not links into the store: some container runtimes refuse an image whose /etc/passwd is an
# absolute link.
{
  pkgs,
  person,
  owner,
  version,
}:
{
  passwd = pkgs.writeText "passwd" ''
    root:x:0:0:root:/root:/bin/sh
    ${person.name}:x:${owner}:${person.name}:${person.home}:${person.shell}
    nobody:x:65534:65534:nobody:/var/empty:/bin/sh
  '';
  group = pkgs.writeText "group" ''
    root:x:0:
    ${person.name}:x:${toString person.gid}:
    nobody:x:65534:
  '';
  nsswitch = pkgs.writeText "nsswitch.conf" ''
    passwd: files
    group: files
    hosts: files dns
  '';
  # A commit needs an author, and a mounted workspace may belong to another user.
  gitconfig = pkgs.writeText "gitconfig" ''
    [user]
    	name = descartes-worker
    	email = descartes-worker@localhost
    [init]
    	defaultBranch = main
    [safe]
    	directory = *
  '';
  # Installers read it to choose what they download. It names no distribution, so that they choose generic programs.
  osRelease = pkgs.writeText "os-release" ''
    NAME="descartes-worker image"
    ID=descartes-worker
    VERSION_ID=${version}
    PRETTY_NAME="descartes-worker image ${version}"
  '';
  # For Nix without a daemon. Where the platform allows no user namespaces, Nix builds without a sandbox.
  nixConf = pkgs.writeText "nix.conf" ''
    experimental-features = nix-command flakes
    build-users-group =
    sandbox = true
    sandbox-fallback = true
  '';
}
