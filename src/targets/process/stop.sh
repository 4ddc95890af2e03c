# Stops workers, whatever becomes of the one who began it. Given: the signal, the grace in seconds, the folder of those
# that are stopping, and NUMBER:PID:START of each worker that may be among them.
signal=$1 grace=$2 stopping=$3
shift 3

# The input ends when it is decided who is stopping, or when the one who decides is dead.
while read -r _; do :; done

# Whether the process that has this number is the one that began at this time: the 22nd field, of which two are cut off.
is_still() {
  read -r line <"/proc/$1/stat" || return 1
  start=$2
  # shellcheck disable=SC2086
  set -- ${line##*) }
  [ "${20}" = "$start" ]
}

left=
for worker; do
  number=${worker%%:*}
  started=${worker##*:}
  pid=${worker#*:}
  pid=${pid%%:*}
  if [ -d "$stopping/$number" ] && is_still "$pid" "$started"; then
    kill -"$signal" "-$pid" && left="$left $pid"
  fi
done

# The number of a group is nobody else's while one of its processes is there.
while [ -n "$left" ] && [ 0 -lt "$grace" ]; do
  sleep 1
  grace=$((grace - 1))
  still=
  for pid in $left; do
    kill -0 "-$pid" && still="$still $pid"
  done
  left=$still
done
for pid in $left; do
  kill -KILL "-$pid"
done
