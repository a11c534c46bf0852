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
failed=0
for case in field/*.sh hostile/*.sh; do
  [[ $case == *"${1-}"* ]] || continue
  began=$SECONDS
  said=$(timeout 300 bash "$case" 2>&1)
  case $? in
    0) line=ok said= ;;
    77) line=skipped said="  $said" ;;
    *) line=FAILED failed=1 ;;
  esac
  echo "$line ${case%.sh} ($((SECONDS - began)) s)"
  [ -z "$said" ] || tail -6 <<< "$said"
done
exit $failed
