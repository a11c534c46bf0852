# Read by each case: commands, photos, an empty folder to work in, and what is expected of a command.
set -u
CASES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PROJ=${PROJ:-$(cd "$CASES/../.." && pwd)}
export PATH=$PROJ/.venv/bin:$PATH OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
DEMO=$PROJ/demo  # made by run_all.sh, and only read here
A=$DEMO/photos/portrait_00.jpg B=$DEMO/photos/portrait_01.jpg
DOWNLOADS=$PROJ/build/cases  # old releases of other people's packages, kept from one run to the next
RUN="--actors 1 --steps 1 --metrics mse --align none"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK" || exit 1
failed=0

wrong() { # wrong EXPECTED FOUND: the case goes on, and ends with status 1
  echo "  expected: $1"
  echo "  found:    $2"
  failed=1
}

words() { # words COMMAND...: as they are shown
  cut -c1-150 <<< "$*" | head -1
}

skip() { # skip WHY
  echo "$1"
  exit 77
}

unforeseen() { # whether out.txt holds an error that nobody has words for
  grep -q -e Traceback -e 'error that it does not know' out.txt
}

limited() { # limited GIB SECONDS COMMAND...: its status in $rc (137: killed), its output in out.txt, the last line in $said
  python3 "$CASES/limited.py" "$@" > out.txt 2>&1
  rc=$?
  said=$(tr '\r' '\n' < out.txt | grep -v -e '^inverting' -e '^$' | tail -1 | cut -c1-200)
}

refused() { # refused GIB SECONDS COMMAND...: status 2 and a sentence
  limited "$@"
  if [ "$rc" != 2 ] || unforeseen; then
    wrong "status 2 and one sentence of $(words "${@:3}")" "status $rc: $said"
  fi
}

told() { # told GIB SECONDS COMMAND...: refused, or done without what is damaged; never a traceback, nor too much
  limited "$@"
  if [ "$rc" != 0 ] && [ "$rc" != 2 ] || unforeseen; then
    wrong "a result or one sentence of $(words "${@:3}")" "status $rc: $said"
  fi
}

succeeds() { # succeeds COMMAND...
  limited 6 120 "$@"
  [ "$rc" = 0 ] || wrong "status 0 of $*" "status $rc: $said"
}

rows() { # rows FOLDER: its rows, "key status" each
  python - "$1" <<'P'
import sys

import pyarrow.parquet as pq

rows = pq.read_table(sys.argv[1], columns=["key", "status"]).to_pylist()
print("\n".join(sorted(f"{row['key']} {row['status']}" for row in rows)))
P
}

expect_rows() { # expect_rows FOLDER ROWS: as rows() prints them
  local found
  found=$(rows "$1" 2>&1)
  [ "$found" = "$2" ] || wrong "the rows ${2//$'\n'/, }" "${found//$'\n'/, }"
}

installed() { # installed FOLDER PACKAGE==VERSION...: pip put them into FOLDER of $DOWNLOADS, or the case is skipped
  local folder=$DOWNLOADS/$1
  [ -d "$folder" ] || python -m pip install -q --no-deps --target "$folder" "${@:2}" > pip.txt 2>&1 || {
    rm -rf "$folder"
    skip "pip cannot install ${*:2} here"
  }
}
