# Runs a server for as long as standard input stays open, which is as long as the process that opened it lives: even
# one that is killed leaves no server behind. Arguments: the log file, a directory to remove at the end or nothing, and
# the command. Prints the server's process id.
log=$1
remove=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- >>"$log" 2>&1 &
server=$!
echo "$server"
# A fast shutdown first; one that takes too long becomes an immediate one, then a killed one.
{
    read -r _
    kill -INT "$server"
    sleep 10
    kill -QUIT "$server"
    sleep 5
    kill -KILL "$server"
} <&3 3<&- >/dev/null 2>&1 &
watcher=$!
exec 3<&- </dev/null >/dev/null 2>&1
wait "$server"
code=$?
kill "$watcher"
if [ -n "$remove" ]; then
    cd /
    rm -rf -- "$remove"
fi
exit "$code"
