#!/bin/sh
# kafka-dump-log: see milena-run.sh beside it, which finds the program.
self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
exec "$(dirname "$self")/milena-run.sh" kafka-dump-log "$@"
