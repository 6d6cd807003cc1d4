#!/usr/bin/env bash
# Prints the path of a Python from 3.11 up that can make virtual environments; else says what to install, status 1.

unfit=''
for candidate in python3.11 python3.12 python3.13 python3.14 python3 python; do
  found=$(command -v "$candidate") || continue
  version=$("$found" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  if ! "$found" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    unfit="$found is Python $version. Debian 12, Ubuntu 24.04 or newer: apt-get install python3 python3-venv."
  elif ! "$found" -I -c 'import ensurepip, venv' 2>/dev/null; then
    unfit="$found cannot make virtual environments. Debian, Ubuntu: apt-get install python$version-venv."
  else
    printf '%s\n' "$found"
    exit 0
  fi
done
{
  echo 'claude-loop: needs Python 3.11 or newer with the module venv.'
  echo "${unfit:-There is no Python here. Debian, Ubuntu: apt-get install python3 python3-venv.}"
  echo 'Fedora: dnf install python3. macOS: brew install python.'
} >&2
exit 1
