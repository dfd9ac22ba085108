#!/usr/bin/env bash
# Makes the store of an image usable by Nix without a daemon: the database of what the image holds, and directories in which the
# user of the image may write. Runs as (fake) root in the directory that becomes the root of the image.
#
#     database.sh REGISTRATION OWNER ROOT...
#
# REGISTRATION is what `nix-store --load-db` reads. Each ROOT stays when the user collects garbage. Needs nix-store and sqlite3.
set -euo pipefail
registration=$1
owner=$2
shift 2

mkdir -p nix/store nix/var/nix/{db,gcroots/image,profiles,temproots}
# Nix refuses to run without a user name.
USER=nobody NIX_REMOTE="local?root=$PWD" nix-store --load-db <"$registration"
# The time of the build would make each image a different one.
sqlite3 nix/var/nix/db/db.sqlite "UPDATE ValidPaths SET registrationTime = ${SOURCE_DATE_EPOCH:-1}"
# The journal of the database contains the time too.
sqlite3 nix/var/nix/db/db.sqlite 'PRAGMA journal_mode = DELETE; VACUUM' >/dev/null
rm -f nix/var/nix/db/db.sqlite-wal nix/var/nix/db/db.sqlite-shm
for root in "$@"; do
    ln -s "$root" "nix/var/nix/gcroots/image/$(basename "$root")"
done
chown "$owner" nix nix/store
chown -R "$owner" nix/var
