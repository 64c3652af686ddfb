#!/bin/sh
# Runs the one binary, wherever it is: every other script here comes through this one.
#   milena-run.sh COMMAND [ARGUMENTS]
# Looked for, in this order: $MILENA_BIN, beside this folder and in it (an installation),
# the target directory of a checkout (release before debug).
self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
here=$(cd "$(dirname "$self")" && pwd -P) || exit 1
home=$(dirname "$here")
# where logs/ goes when a server is started in the background
export MILENA_HOME="${MILENA_HOME:-$home}"

for candidate in "$MILENA_BIN" "$home/milena" "$here/milena" \
  ${CARGO_TARGET_DIR:+"$CARGO_TARGET_DIR/release/milena" "$CARGO_TARGET_DIR/debug/milena"} \
  "$home/target/release/milena" "$home/target/debug/milena"; do
  if [ -n "$candidate" ] && [ -f "$candidate" ] && [ -x "$candidate" ]; then
    exec "$candidate" "$@"
  fi
done

cat >&2 <<TEXT
${1:-milena}: the program milena was not found.
Looked for: \$MILENA_BIN, $home/milena, $here/milena, $home/target/{release,debug}/milena
In a checkout, build it once:   cd $home && cargo build --release
Elsewhere, say where it is:     export MILENA_BIN=/path/to/milena
TEXT
exit 1
