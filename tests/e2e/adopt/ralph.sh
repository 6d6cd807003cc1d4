#!/bin/bash
# A loop of ralph's shape: it knows nothing of claude-loop.
set -e

TOOL=claude
MAX_ITERATIONS=10
while [[ $# -gt 0 ]]; do
  case $1 in
    --tool) TOOL=$2; shift 2 ;;
    *) [[ $1 =~ ^[0-9]+$ ]] && MAX_ITERATIONS=$1; shift ;;
  esac
done

SCRIPT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROGRESS_FILE=$SCRIPT_DIR/progress.txt
if [[ ! -f $PROGRESS_FILE ]]; then
  printf '# Ralph Progress Log\nStarted: %s\n---\n' "$(date)" > "$PROGRESS_FILE"
fi

echo "Starting Ralph - Tool: $TOOL - Max iterations: $MAX_ITERATIONS"
for i in $(seq 1 "$MAX_ITERATIONS"); do
  echo ""
  echo "==============================================================="
  echo "  Ralph Iteration $i of $MAX_ITERATIONS ($TOOL)"
  echo "==============================================================="
  case $TOOL in
    codex) ARGUMENTS=(exec --dangerously-bypass-approvals-and-sandbox --dangerously-bypass-hook-trust -) ;;
    *) ARGUMENTS=(--dangerously-skip-permissions --print) ;;
  esac
  OUTPUT=$("$TOOL" "${ARGUMENTS[@]}" < "$SCRIPT_DIR/CLAUDE.md" 2>&1 | tee /dev/stderr) || true
  if echo "$OUTPUT" | grep -q "<promise>COMPLETE</promise>"; then
    echo ""
    echo "Ralph completed all tasks!"
    echo "Completed at iteration $i of $MAX_ITERATIONS"
    exit 0
  fi
  echo "Iteration $i complete. Continuing..."
  sleep 0.5
done
echo ""
echo "Ralph reached max iterations ($MAX_ITERATIONS) without completing all tasks."
exit 1
