#!/usr/bin/env bash
# One worker of one PRD: reports its stories, whatever happens to it. CLAUDE_LOOP_PRD names the PRD.
set -euo pipefail

# shellcheck source=/dev/null
source emit_progress.sh

finish() {
  local status=$?
  ((status == 0)) && return
  emit_error "" "" "worker ended with status $status"
  emit_prd_completed "" false
}

# An empty PRD means the one of the environment.
emit_prd_started "" 1
trap finish EXIT

story=US-001
before=$(git rev-parse HEAD)
emit_story_started "" "$story"
# Here the agent works on the story, and commits.
if output=$(make test 2>&1); then
  emit_test_run "" "$story" 1 0
else
  emit_test_run "" "$story" 0 1 "make test"
  emit_error "" "$story" "$output"
  exit 1
fi
if [[ $(git rev-parse HEAD) != "$before" ]]; then # without a commit the story stays claimed, and says why
  emit_commit_created "" "$story" "$(git rev-parse --short HEAD)" "$(git log -1 --format=%s)"
fi
emit_story_completed "" "$story" true
emit_prd_completed "" true
