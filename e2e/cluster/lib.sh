# shellcheck shell=bash
# shellcheck disable=SC2034 # its variables are for those who source it
# lib.sh: what up, down, run and load-image share; sourced, never run.
#
# Everything that a cluster starts lives in three containments of its own, so that taking it down
# needs no search and can hit nothing else:
#   - a control group: every process of the cluster is in it, pods included. Down kills that group.
#   - a network namespace: its interfaces, addresses, iptables rules and listening ports.
#   - a mount namespace, without a name: the mounts of containerd and kubelet, and the few host paths
#     that they write and that no option moves. It ends with the last process in it.
# What remains on the machine is the state folder, and a handful of sysctls and empty folders, which
# are noted in the state folder before they are touched.

CLUSTER_FOLDER=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
CACHE=${CICADA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cicada}
KUBERNETES=$CACHE/kubernetes-1.20.2/bin
TOOLS=$CACHE/kubernetes-tools-2.2.2
STATE=$(realpath -ms "${CICADA_CLUSTER_STATE:-/var/tmp/cicada-cluster}")

NAME=cicada-cluster                 # of the network namespace and of the control group
NODE=node-a
NODE_IP=192.168.77.1
POD_CIDR=10.244.0.0/16              # of all nodes there could be
NODE_POD_CIDR=10.244.0.0/24         # of the one there is
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1            # Service kubernetes, always the first of the range
NETNS=/run/netns/$NAME

LOG=$STATE/log
PIDS=$STATE/pids
PKI=$STATE/pki
CONFIG=$STATE/config
RUN=$STATE/run
CONTAINERD_SOCKET=$RUN/containerd.sock

# kubelet and kube-proxy sync with whatever "iptables" they find: legacy takes 60 ms a sync, nft 110 ms
# and at times over a second. up makes this folder where the kernel still knows legacy.
DAEMON_PATH=$STATE/iptables-legacy:$KUBERNETES:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { echo "${0##*/}: $*"; }
fail() { echo "${0##*/}: $*" >&2; exit 1; }

# need COMMAND=PACKAGE...: fails with the list of the Debian packages that are missing
need() {
  local pair missing=
  for pair; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=" ${pair#*=}"
  done
  [ -z "$missing" ] || fail "install first: apt-get install$missing"
}

need_root() { [ "$(id -u)" = 0 ] || fail "needs root (namespaces, control groups, mounts)"; }

# One up or down at a time. The lock sits on this very file, so that no lock file is left behind; the
# daemons are started without it.
lock() {
  exec 9< "$CLUSTER_FOLDER/lib.sh"
  flock -n 9 || { say "another up or down is at work, waiting for it"; flock 9; }
}

# --- control groups ----------------------------------------------------------------------------------

cgroup_is_unified() { [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; }

# The hierarchies that our processes join: the unified one, or each of version 1.
cgroup_hierarchies() {
  if cgroup_is_unified; then echo /sys/fs/cgroup; else awk '$3 == "cgroup" { print $2 }' /proc/self/mounts | sort -u; fi
}

# The one hierarchy by which we find our processes again.
cgroup_tracker() {
  if cgroup_is_unified; then echo "/sys/fs/cgroup/$NAME"; else echo "/sys/fs/cgroup/pids/$NAME"; fi
}

cgroup_processes() {
  local tracker
  tracker=$(cgroup_tracker)
  [ ! -d "$tracker" ] || find "$tracker" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

# NAME/system is for the daemons, NAME/kubepods is made by kubelet for the pods.
cgroup_up() {
  local hierarchy folder file
  if cgroup_is_unified; then
    mkdir -p "/sys/fs/cgroup/$NAME"
    for folder in /sys/fs/cgroup "/sys/fs/cgroup/$NAME"; do   # what a group hands down must be handed to it first
      for file in cpuset cpu io memory pids; do
        grep -qw "$file" "$folder/cgroup.subtree_control" || echo "+$file" > "$folder/cgroup.subtree_control" ||
          fail "cgroup v2: the controller $file cannot be enabled in $folder; kubelet needs it (in a container: run it with the host's cgroup namespace)"
      done
    done
    mkdir -p "/sys/fs/cgroup/$NAME/system"
    return
  fi
  [ -d /sys/fs/cgroup/pids ] || fail "no cgroup hierarchy that Kubernetes 1.20 could use: neither version 2 nor version 1 with pids"
  for hierarchy in $(cgroup_hierarchies); do
    for folder in "$hierarchy/$NAME" "$hierarchy/$NAME/system"; do
      mkdir -p "$folder"
      for file in cpuset.cpus cpuset.mems; do   # empty in a new group, and then no process may join
        [ ! -f "$folder/$file" ] || cat "$hierarchy/$file" > "$folder/$file"
      done
    done
  done
}

cgroup_join() { # of the calling (sub)shell
  local hierarchy
  for hierarchy in $(cgroup_hierarchies); do echo "$BASHPID" > "$hierarchy/$NAME/system/cgroup.procs"; done
}

cgroup_kill() {
  local processes attempt
  for attempt in $(seq 100); do   # again, because a process may have started another one meanwhile
    processes=$(cgroup_processes)
    [ -n "$processes" ] || return 0
    # shellcheck disable=SC2086
    kill -KILL $processes 2>/dev/null || true
    [ "$attempt" -lt 10 ] || sleep 0.1
    sleep 0.02
  done
  fail "these processes of the cluster do not die: ${processes//$'\n'/ }"
}

cgroup_down() {
  local folder attempt
  for folder in $(cgroup_hierarchies) /sys/fs/cgroup/unified; do   # runc makes ours there too, in hybrid mode
    [ -d "$folder/$NAME" ] || continue
    for attempt in 1 2 3 4 5 6 7 8 9 10; do   # a group is busy for a moment after its last process
      find "$folder/$NAME" -depth -type d -exec rmdir {} + 2>/dev/null && break
      [ "$attempt" -lt 10 ] || fail "cannot remove the control group $folder/$NAME"
      sleep 0.1
    done
  done
}

# --- processes ----------------------------------------------------------------------------------------

# launch NAME COMMAND...: a daemon in all three containments; its output goes to log/NAME.log.
# nsenter and setsid exec, so that the recorded pid is the daemon's. ("ip netns exec" would mount /sys
# anew, and the control groups would be gone for kubelet and runc.)
launch() {
  local name=$1
  shift
  launch_in "$name" "--net=$NETNS" "--mount=/proc/$(cat "$PIDS/mounts")/ns/mnt" -- "$@"
}

# launch_in NAME NAMESPACE... -- COMMAND...: as launch, with other namespaces. What it is called with is kept for `restart`.
launch_in() {
  local name=$1
  shift
  printf '%s\0' "$@" > "$RUN/launched.$name"
  (
    exec 9<&-   # the lock is not theirs
    cgroup_join
    ulimit -n "$(open_files)"
    # No variable of the caller reaches a daemon: a proxy setting, for one, would break the cluster.
    exec setsid env -i "PATH=$DAEMON_PATH" HOME=/root LANG=C.UTF-8 "CICADA_CLUSTER_STATE=$STATE" nsenter "$@"
  ) >> "$LOG/$name.log" 2>&1 < /dev/null &
  echo $! > "$PIDS/$name"
}

# As many open files as the machine lets us, up to what kubelet would like to have.
open_files() {
  local limit
  limit=$(ulimit -Hn)
  if [ "$limit" = unlimited ] || [ "$limit" -gt 1000000 ]; then limit=1000000; fi
  echo "$limit"
}

# daemon_dead: prints the name of a daemon that has ended, if one has
daemon_dead() {
  local file
  for file in "$PIDS"/*; do
    kill -0 "$(cat "$file")" 2>/dev/null || { basename "$file"; return 0; }
  done
  return 1
}

# kubectl remembers what a server serves, in the home folder and by address: not what this one did last time.
kubectl() { KUBECACHEDIR=$RUN/kubectl-cache nsenter "--net=$NETNS" "$TOOLS/kubectl" "--kubeconfig=$CONFIG/admin.kubeconfig" "$@"; }

# in_cluster COMMAND...: replaces the shell by a command inside the network namespace, which finds
# the cluster's API and DNS there. /etc/resolv.conf is replaced for this command only.
in_cluster() {
  export KUBECONFIG=$CONFIG/netns.kubeconfig KUBECACHEDIR=$RUN/kubectl-cache PATH=$TOOLS:$PATH
  unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
  # shellcheck disable=SC2016
  exec nsenter "--net=$NETNS" unshare --mount --propagation slave sh -c \
    '[ ! -e /etc/resolv.conf ] || mount --bind "$0" /etc/resolv.conf; exec "$@"' "$CONFIG/resolv.conf" "$@"
}

is_up() {
  [ -f "$STATE/ready" ] && [ -e "$NETNS" ] && [ -n "$(cgroup_processes)" ] && ! daemon_dead >/dev/null
}

# --- taking down --------------------------------------------------------------------------------------

# made PATH...: notes those that do not exist yet, so that down removes them again, and only them
made() {
  local path
  for path; do [ -e "$path" ] || echo "$path" >> "$STATE/made"; done
}

# The state folder will be removed with all that is in it: be sure that it is one.
check_state_folder() {
  local pid other
  if [ -e "$STATE" ] && [ ! -f "$STATE/.cicada-cluster" ]; then
    rmdir "$STATE" 2>/dev/null || fail "$STATE holds something else than a cluster's state; set CICADA_CLUSTER_STATE"
  fi
  for pid in $(cgroup_processes); do
    other=$(tr '\0' '\n' 2>/dev/null < "/proc/$pid/environ" | sed -n 's/^CICADA_CLUSTER_STATE=//p') || continue
    [ -z "$other" ] || [ "$other" = "$STATE" ] || fail "the cluster that runs has its state elsewhere: CICADA_CLUSTER_STATE=$other"
  done
}

# Takes down whatever is there of a cluster: all of it, half of it after an interrupted up, nothing.
cluster_down() {
  local path value
  check_state_folder
  cgroup_kill
  if [ -e "$NETNS" ]; then ip netns del "$NAME"; fi
  cgroup_down
  if [ -f "$STATE/sysctls" ]; then
    while read -r path value; do
      [ "$(cat "$path")" = "$value" ] || echo "$value" > "$path"
    done < "$STATE/sysctls"
  fi
  if [ -f "$STATE/netns-mount" ] && [ -d /run/netns ] && [ -z "$(ls /run/netns)" ]; then umount /run/netns 2>/dev/null || true; fi
  if [ -f "$STATE/made" ]; then
    tac "$STATE/made" | while read -r path; do
      if [ -d "$path" ]; then rmdir "$path" 2>/dev/null || true; else rm -f "$path"; fi
    done
  fi
  [ ! -d "$STATE" ] || rm -rf --one-file-system "$STATE"
}
