#!/usr/bin/env bash
# Several PRDs at once, one worker each, no PRD worked on twice: the pieces to copy into your own coordinator.
#
#   usage: coordinator.sh PRD...
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
status=0
workers=()
for prd in "$@"; do
  # Below this line everything knows its PRD: worker.sh, and whatever it starts.
  CLAUDE_LOOP_PRD=$prd claude-loop lock "prd-$prd" --no-wait -- bash "$here/worker.sh" &
  workers+=($!)
done
for worker in ${workers[@]+"${workers[@]}"}; do
  wait "$worker" || status=1 # 75: another coordinator has this PRD already
done
exit "$status"
