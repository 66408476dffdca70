#!/usr/bin/env bash
# Runs a command on a copy of the project inside a userland of another Debian release, for the stack that this system
# does not have:
#
#   tests/support/userland.sh trixie make test-stack
#
# The userland is made once, below .userland/: a minute and 700 MB, and the project's environment on top. It is a
# directory that chroot enters, which needs root. The copy holds what git tracks, and untracked files that it does not
# ignore; it replaces the last one, of which the environment stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ $# -lt 2 ]; then
  echo "userland.sh: name a release of Debian and a command: $0 trixie make test-stack" >&2
  exit 2
fi
if [ "$(id -u)" != 0 ]; then
  echo "userland.sh: chroot needs root: run this as root, or run the command on such a system" >&2
  exit 2
fi
release=$1
shift
root=$PWD/.userland/$release
packages=python3,python3-venv,python3-dev,g++,make,git,ca-certificates,libgomp1

if [ ! -e "$root/.ready" ]; then
  command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap; }
  # Debian's own mirror where this is no Debian.
  mirror=$(. /etc/os-release && [ "$ID" = debian ] && sed -nE 's/^URIs: *//p; s/^deb (\[[^]]*\] )?([^ ]+).*/\2/p' \
    $(find /etc/apt -name '*.sources' -o -name '*.list') | head -n 1 || true)
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase --include="$packages" "$release" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 || {
    tail -n 20 "$root.log" >&2
    exit 1
  }
  touch "$root/.ready"
fi
mkdir -p "$root/src" "$root/dev/shm"
certificates=etc/ssl/certs/ca-certificates.crt
cp -L "/$certificates" "$root/$certificates"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
[ ! -e /etc/pip.conf ] || cp -L /etc/pip.conf "$root/etc/"

find "$root/src" -mindepth 1 -maxdepth 1 ! -name .venv ! -name .uv -exec rm -rf {} +
git ls-files -z --cached --others --exclude-standard --deduplicate | while IFS= read -r -d '' file; do
  [ ! -e "$file" ] || printf '%s\0' "$file"
done | tar --null --files-from=- --create --file=- | tar --extract --directory="$root/src" --file=- --no-same-owner

# Where packages come from, and whether this is a check on a server.
kept=()
while IFS= read -r name; do
  kept+=("$name=${!name}")
done < <(compgen -e | grep -E '^(PIP_|UV_|CI$)|_PROXY$|_proxy$')
# In a mount namespace of its own, so that /proc is gone from the directory when the command ends.
exec unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec "$@"' "$root" \
  chroot "$root" env -i "${kept[@]}" HOME=/var/tmp LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  SSL_CERT_FILE="/$certificates" REQUESTS_CA_BUNDLE="/$certificates" PIP_CERT="/$certificates" \
  sh -c 'cd /src && exec "$@"' sh "$@"
