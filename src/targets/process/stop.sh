# Stops workers, whatever becomes of the one who began it. Given: the signal, the grace in seconds, the folder of those
# that are stopping, and NUMBER:PID:START:TOKEN of each worker that may be among them.
signal=$1 grace=$2 stopping=$3
shift 3

# The input ends when it is decided who is stopping, or when the one who decides is dead.
while read -r _; do :; done

# The group of a process and when it began: the 5th and the 22nd field, of which two are cut off.
look_at() {
  read -r line <"/proc/$1/stat" || return 1
  # shellcheck disable=SC2086
  set -- ${line##*) }
  group=$3 start=${20}
}

# Whether the process that has this number is the one that began at this time.
is_still() {
  look_at "$1" && [ "$start" = "$2" ]
}

# Whether the group with this number is the worker's: the worker is there, or something that it left behind, which has its token.
is_its() {
  is_still "$1" "$2" && return 0
  for other in /proc/[0-9]*; do
    look_at "${other#/proc/}" && [ "$group" = "$1" ] && grep -qF "TIDEGATE_TOKEN=$3" "$other/environ" && return 0
  done
  return 1
}

# Seconds since the machine began, whatever becomes of the time of day.
tell_time() {
  read -r uptime _ </proc/uptime && now=${uptime%%.*}
}

left=
for worker; do
  number=${worker%%:*} process=${worker#*:}
  pid=${process%%:*} rest=${process#*:}
  if [ -d "$stopping/$number" ] && is_still "$pid" "${rest%%:*}"; then
    kill -"$signal" "-$pid" && left="$left $process"
  fi
done

# Where nobody can wait, nobody is killed: the next change does it.
tell_time || exit 1
until=$((now + grace))
while [ -n "$left" ] && [ "$now" -lt "$until" ]; do
  sleep 1 || exit 1
  tell_time || exit 1
  still=
  for process in $left; do
    kill -0 "-${process%%:*}" && still="$still $process"
  done
  left=$still
done
# By now another may have the number of a group that has ended.
for process in $left; do
  pid=${process%%:*} rest=${process#*:}
  is_its "$pid" "${rest%%:*}" "${rest#*:}" && kill -KILL "-$pid"
done
