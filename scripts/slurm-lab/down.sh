#!/bin/bash
# down.sh - stop what up.sh started, by its own pid files. --keep-jobs: do not cancel jobs first.
# --purge: also delete the laboratory's folder and the Unix users that up.sh made.
set -u
. "$(cd "$(dirname "$0")" && pwd)/common.sh"
[ -f "$LAB/env.sh" ] || { say "nothing at $LAB"; [ "${1:-}" != --purge ] || [ ! -d "$LAB/etc" ] || rm -rf -- "$LAB"; exit 0; }
enter_lab
if [ "${1:-}" != --keep-jobs ] && alive "$LAB/run/slurmctld.pid" slurmctld; then
  for user in $LAB_USERS; do timeout 10 scancel -u "$user" 2>/dev/null; done
  for i in $(seq 15); do [ -z "$(timeout 5 squeue -h -t R,CG,S 2>/dev/null)" ] && break; sleep 1; done
fi
for file in "$LAB"/run/slurmd.*.pid; do stop "$file" slurmd; done
stop "$LAB/run/slurmctld.pid" slurmctld
stop "$LAB/run/slurmdbd.pid" slurmdbd
stop "$LAB/run/mysql.pid" mariadbd
if [ -e "$LAB/run/we-started-munge" ]; then
  stop /run/munge/munged.pid munged
  rm -f "$LAB/run/we-started-munge"
fi
if [ "${1:-}" = --purge ]; then
  # only users that are in the file because up.sh made them
  while read -r user; do
    case " $LAB_USERS " in *" $user "*) userdel -r "$user" 2>/dev/null ;; esac
  done < <(cat "$LAB/users-made" 2>/dev/null)
  rm -rf -- "$LAB"
fi
say "down"
