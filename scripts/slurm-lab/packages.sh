#!/bin/bash
# packages.sh missing [PREFIX] - prints the Debian packages that the laboratory needs and that are not installed.
# With PREFIX (a Slurm built from source) the Slurm packages are not needed.
[ "${1:-}" = missing ] || { echo "usage: packages.sh missing [PREFIX]" >&2; exit 2; }
need="munge mariadb-server"
[ -n "${2:-}" ] || need="$need slurmctld slurmd slurmdbd slurm-client slurm-wlm-mysql-plugin slurm-wlm-basic-plugins"
missing=
for package in $need; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
echo "${missing# }"
