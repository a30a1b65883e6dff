# common.sh - what the scripts of the Slurm laboratory share. Sourced, not run.
#
# Everything of the laboratory lies in one folder: $AMIE_SLURM_LAB, by default /var/lib/amie-slurm-lab.
LAB=${AMIE_SLURM_LAB:-/var/lib/amie-slurm-lab}
case $LAB in /*) ;; *) LAB=$PWD/$LAB ;; esac
W=$LAB/work                      # where jobs run and write
NODES="c1 c2 c3 c4 g1 g2"
LAB_USERS="alice bob carol dave erin frank"

say() { echo "${0##*/}: $*"; }
die() { echo "${0##*/}: ERROR: $*" >&2; exit 1; }

# the environment that up.sh left behind: SLURM_CONF, PATH, CLUSTER, ports
enter_lab() {
  [ -f "$LAB/env.sh" ] || die "no laboratory at $LAB: run up.sh first"
  # shellcheck source=/dev/null
  . "$LAB/env.sh"
}

# as USER COMMAND...: run as that user, in the work folder
as() {
  local user=$1; shift
  runuser -u "$user" -- env -C "$W" HOME="/home/$user" USER="$user" LOGNAME="$user" SLURM_CONF="$SLURM_CONF" PATH="$PATH" "$@"
}

# the laboratory's own database: arguments as for the mariadb client
database() { mariadb --no-defaults -u root -S "$LAB/run/mysql.sock" "$@"; }

# state_of JOB: the scheduler's word for where the job stands, empty when it is forgotten
state_of() { scontrol -o show job "$1" 2>/dev/null | head -1 | sed -n 's/.*JobState=\([^ ]*\).*/\1/p'; }

# wait_state JOB STATE [HALF-SECONDS]
wait_state() {
  local i
  for i in $(seq "${3:-40}"); do
    [ "$(state_of "$1")" = "$2" ] && return 0
    sleep .5
  done
  echo "job $1 never became $2 (it is '$(state_of "$1")')" >&2
  return 1
}

# alive PIDFILE NAME: is that process alive, and is it what the file says? (a stale file may name a stranger)
alive() { [ -s "$1" ] && grep -q "^$2" "/proc/$(cat "$1")/comm" 2>/dev/null; }

# stop PIDFILE NAME: asks it to end, and insists after half a minute
stop() {
  alive "$1" "$2" || return 0
  local pid i
  pid=$(cat "$1")
  kill "$pid"
  for i in $(seq 60); do [ -d "/proc/$pid" ] || return 0; sleep .5; done
  kill -9 "$pid"
}
