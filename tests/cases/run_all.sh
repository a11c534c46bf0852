#!/bin/bash
# Every case once, a line each: bash tests/cases/run_all.sh [PART_OF_A_NAME]
#
# field/ holds what users met, hostile/ what strangers sent. A case exits 0, 1 (then it has printed what was
# expected and what was found) or 77 (something that it needs is not here). PROJ: another checkout than this one.
cd "$(dirname "$0")" || exit 1
export PROJ=${PROJ:-$(cd ../.. && pwd)}
[ -d "$PROJ/demo/latents" ] || "$PROJ/.venv/bin/restyle" demo --out "$PROJ/demo" > /dev/null 2>&1 || {
  echo "restyle demo --out $PROJ/demo failed"
  exit 1
}
try() { # try CASE: its line, and what it has to say
  local began=$SECONDS line said
  said=$(timeout 300 bash "$1" 2>&1)
  case $? in
    0) line=ok said= ;;
    77) line=skipped said="  $said" ;;
    *) line=FAILED ;;
  esac
  said="$line ${1%.sh} ($((SECONDS - began)) s)"$'\n'$(tail -6 <<< "$said")
  echo "${said%$'\n'}"
  [ $line != FAILED ]
}
export -f try
# Two at once: most of a case is waiting for Ray.
printf '%s\n' field/*.sh hostile/*.sh | grep -F -- "${1-}" | xargs -P "${JOBS:-2}" -I {} bash -c 'try {}' || exit 1
