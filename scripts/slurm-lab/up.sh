#!/bin/bash
# up.sh - bring up a complete Slurm on one machine: munge, MariaDB, slurmdbd, slurmctld and six virtual nodes
# ("slurmd -N"), without systemd, on Debian 12. For tests: it must be root, and it is no example of a secure cluster.
#
#   scripts/slurm-lab/up.sh     then:  . /var/lib/amie-slurm-lab/env.sh; sinfo; sacct -a
#   scripts/slurm-lab/down.sh   stops it; with --purge it also deletes the folder and the users that were made
#
# It may be run again: a daemon that is alive is left alone, accounts that exist are kept. All of it lies in one
# folder except Debian's packages, the Unix users and munge's own key and socket. It listens on the loopback
# interface only, on twelve successive ports that were free (first choice: 26800).
#
# Environment: AMIE_SLURM_LAB=dir; AMIE_SLURM_LAB_PORT=first port; SLURM_PREFIX=dir (a Slurm that was built with
# --enable-multiple-slurmd, instead of Debian's 22.05); NOAPT=1 (install nothing); DBCHARSET=latin1 (as old databases).
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/common.sh"
PREFIX=${SLURM_PREFIX:-}
CLUSTER=testhpc
[ "$(id -u)" = 0 ] || die "must be root"

# ---------------------------------------------------------------- packages
missing=$("$HERE/packages.sh" missing "$PREFIX")
if [ -n "$missing" ]; then
  [ -z "${NOAPT:-}" ] || die "missing packages: $missing"
  say "installing: $missing"
  export DEBIAN_FRONTEND=noninteractive
  # keep the packages' own scripts from starting the services system-wide
  made_policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    made_policy=1
  fi
  log=$(mktemp /tmp/amie-slurm-lab-apt.XXXXXX)
  ok=1
  install_missing() { apt-get -o DPkg::Lock::Timeout=900 install -y -q --no-install-recommends $missing >"$log" 2>&1; }
  # a stale package list names files that are gone: refresh it once
  install_missing || { apt-get -q -o DPkg::Lock::Timeout=900 update >>"$log" 2>&1 && install_missing; } || ok=
  [ -n "$made_policy" ] && rm -f /usr/sbin/policy-rc.d
  [ -n "$ok" ] || die "apt-get install failed; see $log"
  rm -f "$log"
fi
if [ -n "$PREFIX" ]; then SBIN=$PREFIX/sbin; BIN=$PREFIX/bin; else SBIN=/usr/sbin; BIN=/usr/bin; fi
VER=$("$SBIN/slurmctld" -V | awk '{print $2}') || die "no slurmctld"
say "Slurm $VER, laboratory in $LAB"

# ------------------------------------------------------------- folders, users
getent group slurm >/dev/null || groupadd -r slurm
getent passwd slurm >/dev/null || useradd -r -g slurm -d /nonexistent -s /usr/sbin/nologin slurm
mkdir -p "$LAB"/{etc,log,run,state,dev,work,archive,spool}
for user in $LAB_USERS; do
  getent passwd "$user" >/dev/null && continue
  useradd -m -s /bin/bash "$user" || die "useradd $user"
  echo "$user" >>"$LAB/users-made"
done
chmod 755 "$LAB" "$LAB/etc"
chown slurm: "$LAB"/{state,log,archive,run}
chmod 1777 "$LAB/work" "$LAB/run"
# stand-ins for GPUs: slurmd only looks whether the files are there
for i in 0 1 2 3; do [ -e "$LAB/dev/nvidia$i" ] || mknod "$LAB/dev/nvidia$i" c 1 3 2>/dev/null || touch "$LAB/dev/nvidia$i"; done

# ------------------------------------------------------------------- ports
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_block() {
  local first=$1 p
  for p in $(seq "$first" $((first + 11))); do answers "$p" && return 1; done
  return 0
}
if [ -s "$LAB/port" ]; then
  BASE=$(cat "$LAB/port")
else
  BASE=${AMIE_SLURM_LAB_PORT:-26800}
  until free_block "$BASE"; do
    [ -n "${AMIE_SLURM_LAB_PORT:-}" ] && die "ports $BASE to $((BASE + 11)) are not free"
    BASE=$((BASE + 20))
    [ "$BASE" -lt 32000 ] || die "no free ports between 26800 and 32000"
  done
  echo "$BASE" >"$LAB/port"
fi
DB_PORT=$BASE DBD_PORT=$((BASE + 1)) CTLD_PORT=$((BASE + 2)) NODE_PORT=$((BASE + 3))

# ------------------------------------------------------------------- munge
if ! munge -n </dev/null >/dev/null 2>&1; then
  install -d -o munge -g munge -m 0755 /run/munge
  install -d -o munge -g munge -m 0700 /var/log/munge /var/lib/munge
  if [ ! -s /etc/munge/munge.key ]; then
    (umask 077; dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none)
    chown munge: /etc/munge/munge.key
  fi
  setpriv --reuid munge --regid munge --clear-groups /usr/sbin/munged --force >/dev/null 2>&1 || die munged
  for i in $(seq 20); do munge -n </dev/null >/dev/null 2>&1 && break; sleep .3; done
  touch "$LAB/run/we-started-munge"
fi
munge -n </dev/null | unmunge >/dev/null || die "munge does not answer"

# ----------------------------------------------------------------- MariaDB
if ! database -e 'select 1' >/dev/null 2>&1; then
  if [ ! -d "$LAB/mysql/mysql" ]; then
    install -d -o mysql -g mysql -m 0700 "$LAB/mysql"
    mariadb-install-db --no-defaults --user=mysql --datadir="$LAB/mysql" --auth-root-authentication-method=socket \
      --skip-test-db >"$LAB/log/mysql-install.log" 2>&1 || die "mariadb-install-db; see $LAB/log/mysql-install.log"
  fi
  rm -f "$LAB/run/mysql.sock" "$LAB/run/mysql.pid"    # it does not answer: stale
  nohup setsid mariadbd --no-defaults --user=mysql --datadir="$LAB/mysql" --socket="$LAB/run/mysql.sock" \
    --pid-file="$LAB/run/mysql.pid" --character-set-server="${DBCHARSET:-utf8mb4}" --port="$DB_PORT" \
    --bind-address=127.0.0.1 --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=2 --log-error="$LAB/mysql/error.log" </dev/null >/dev/null 2>&1 &
  for i in $(seq 60); do database -e 'select 1' >/dev/null 2>&1 && break; sleep .5; done
fi
[ -s "$LAB/etc/database-password" ] || (umask 077; od -An -N12 -tx1 /dev/urandom | tr -d ' \n' >"$LAB/etc/database-password")
PASS=$(cat "$LAB/etc/database-password")
database -e "create database if not exists slurm_acct_db;
  create or replace user slurm@'127.0.0.1' identified by '$PASS'; create or replace user slurm@localhost identified by '$PASS';
  grant all on slurm_acct_db.* to slurm@'127.0.0.1'; grant all on slurm_acct_db.* to slurm@localhost" ||
  die "MariaDB does not answer; see $LAB/mysql/error.log"

# ----------------------------------------------------------- configuration
export SLURM_CONF=$LAB/etc/slurm.conf
HOST=$(hostname -s)
cat >"$LAB/etc/slurmdbd.conf" <<X
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$DBD_PORT
SlurmUser=slurm
DebugLevel=info
LogFile=$LAB/log/slurmdbd.log
PidFile=$LAB/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$DB_PORT
StorageUser=slurm
StoragePass=$PASS
StorageLoc=slurm_acct_db
TrackWCKey=yes
ArchiveDir=$LAB/archive
X
chown slurm: "$LAB/etc/slurmdbd.conf"
chmod 600 "$LAB/etc/slurmdbd.conf"

STORE=job_comment,job_env,job_script
CRED=auth/munge SWITCH=
case $VER in 2[3-9].*) STORE=$STORE,job_extra ;; esac
case $VER in 22.*) CRED=cred/munge SWITCH=SwitchType=switch/none ;; 23.0*) CRED=cred/munge ;; esac
# cgroups are not used (proctrack/linuxproc, task/none); naming a plugin keeps slurmd from looking for /sys/fs/cgroup
case $VER in 22.* | 23.*) CGROUP="CgroupPlugin=cgroup/v1" ;; *) CGROUP="CgroupPlugin=disabled" ;; esac
node() { # NAME INDEX WHAT
  echo "NodeName=$1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$((NODE_PORT + $2)) $3 State=UNKNOWN"
}
cat >"$LAB/etc/slurm.conf" <<X
ClusterName=$CLUSTER
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=slurm
SlurmctldPort=$CTLD_PORT
SlurmdPort=$NODE_PORT
AuthType=auth/munge
CredType=$CRED
AuthInfo=cred_expire=20
StateSaveLocation=$LAB/state
SlurmdSpoolDir=$LAB/spool/%n
SlurmctldPidFile=$LAB/run/slurmctld.pid
SlurmdPidFile=$LAB/run/slurmd.%n.pid
SlurmctldLogFile=$LAB/log/slurmctld.log
SlurmdLogFile=$LAB/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
$SWITCH
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=60
SlurmdTimeout=30
InactiveLimit=0
KillWait=5
MinJobAge=30
Waittime=0
JobRequeue=1
MaxArraySize=100001
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_min_interval=100000,permit_job_expansion
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
PriorityType=priority/multifactor
PreemptType=preempt/qos
PreemptMode=REQUEUE
PreemptExemptTime=00:00:00
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$DBD_PORT
AccountingStorageTRES=gres/gpu,gres/gpu:a100,gres/gpu:v100,license/matlab
AccountingStoreFlags=$STORE
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
TrackWCKey=yes
PrologFlags=Contain
LaunchParameters=use_interactive_step
ScronParameters=enable
MaxDBDMsgs=10000
GresTypes=gpu
Licenses=matlab:5
JobCompType=jobcomp/filetxt
JobCompLoc=$LAB/log/jobcomp.txt
$(node c1 0 "CPUs=4 RealMemory=4000 Feature=intel,ib")
$(node c2 1 "CPUs=4 RealMemory=4000 Feature=intel")
$(node c3 2 "CPUs=4 RealMemory=4000 Feature=amd,ib")
$(node c4 3 "CPUs=4 RealMemory=4000 Feature=amd")
$(node g1 4 "CPUs=8 RealMemory=8000 Gres=gpu:a100:4 Feature=gpu")
$(node g2 5 "CPUs=8 RealMemory=8000 Gres=gpu:v100:2 Feature=gpu")
PartitionName=cpu Nodes=c[1-4] Default=YES MaxTime=7-00:00:00 DefaultTime=10 State=UP TRESBillingWeights="CPU=1.0,Mem=0.25G" AllowQOS=ALL
PartitionName=long Nodes=c1 MaxTime=UNLIMITED State=UP
PartitionName=shared Nodes=c[3-4] MaxTime=2-00:00:00 DefaultTime=10 OverSubscribe=YES:4 State=UP TRESBillingWeights="CPU=0.5"
PartitionName=gpu Nodes=g[1-2] MaxTime=2-00:00:00 DefaultTime=10 State=UP TRESBillingWeights="CPU=0.25,Mem=0.05G,GRES/gpu=10.0"
X
cat >"$LAB/etc/gres.conf" <<X
NodeName=g1 Name=gpu Type=a100 File=$LAB/dev/nvidia[0-3]
NodeName=g2 Name=gpu Type=v100 File=$LAB/dev/nvidia[0-1]
X
echo "$CGROUP" >"$LAB/etc/cgroup.conf"
cat >"$LAB/env.sh" <<X
export SLURM_CONF=$LAB/etc/slurm.conf LAB=$LAB CLUSTER=$CLUSTER PATH=$BIN:$SBIN:\$PATH
X
. "$LAB/env.sh"

# ----------------------------------------------------------------- daemons
wait_port() { for i in $(seq 60); do answers "$1" && return 0; sleep .5; done; return 1; }
if ! alive "$LAB/run/slurmdbd.pid" slurmdbd; then
  answers "$DBD_PORT" && die "port $DBD_PORT was taken by something else: down.sh --purge, then again"
  "$SBIN/slurmdbd" || die slurmdbd
  wait_port "$DBD_PORT" || die "slurmdbd; see $LAB/log/slurmdbd.log"
fi
sacctmgr -n -P show cluster format=cluster | grep -qx $CLUSTER || sacctmgr -i add cluster $CLUSTER >/dev/null || die "add cluster"

quietly() { sacctmgr -i -Q "$@" >/dev/null 2>&1 || true; }   # status 1 only says: nothing new
quietly add qos preemptible Priority=1 UsageFactor=0.25 PreemptMode=requeue
quietly add qos scavenger Priority=1 UsageFactor=0 PreemptMode=cancel
quietly add qos high Priority=1000 UsageFactor=2.0 Preempt=preemptible,scavenger
quietly modify qos normal set Preempt=preemptible,scavenger Priority=100
# sacctmgr folds account names to lower case: TG-ABC123456 becomes tg-abc123456
quietly add account TG-ABC123456 Description="ACCESS allocation" Organization=access
quietly add account TG-DEF987654 Description="ACCESS allocation 2" Organization=access
quietly add account p.sta226239.000 Description="ACCESS project" Organization=access
quietly add account p.cis240001.000 Description="ACCESS project 2" Organization=access
quietly add account physics Description="local department" Organization=local
quietly add account physics-lab parent=physics Description="local group" Organization=local
quietly add account sysadmin Description="staff" Organization=local
member() {
  local user=$1 account; shift
  for account in "$@"; do quietly add user "$user" account="$account"; done
  quietly modify user "$user" set qos=normal,high,preemptible,scavenger
}
member alice TG-ABC123456 p.sta226239.000 physics
member bob TG-ABC123456 TG-DEF987654
member carol p.sta226239.000 p.cis240001.000
member dave physics physics-lab
member erin sysadmin p.cis240001.000
quietly add wckey dummy
quietly modify user alice set defaultwckey=wkA
# frank has, on purpose, no association at all

if ! alive "$LAB/run/slurmctld.pid" slurmctld; then
  "$SBIN/slurmctld" -i || die slurmctld
  wait_port "$CTLD_PORT" || die "slurmctld; see $LAB/log/slurmctld.log"
fi
for node in $NODES; do
  alive "$LAB/run/slurmd.$node.pid" slurmd && continue
  mkdir -p "$LAB/spool/$node"
  "$SBIN/slurmd" -N "$node" || die "slurmd $node; see $LAB/log/slurmd.$node.log"
done
ready() { [ "$(sinfo -h -N -o '%N %T' 2>/dev/null | sort -u | grep -c -E ' (idle|mixed|allocated)')" = 6 ]; }
for i in $(seq 60); do ready && break; sleep 1; done
ready || { sinfo -N -o '%N %P %T %c %m %G'; die "not all nodes came up; see $LAB/log"; }
say "up. Next: . $LAB/env.sh"
