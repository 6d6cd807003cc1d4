#!/usr/bin/env bash
# A PRD loop in bash: works through three stories in a git repository of its own and reports each step.
# In a real loop `work_on` would call a coding agent; here it writes the code itself, wrong at first where
# an agent would be too. Tests and commits are real, and so is every figure that is emitted.
#
#   usage: prd_loop.sh [EMPTY_DIRECTORY]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" >/dev/null && pwd)
# Installed, `source emit_progress.sh` is enough. In a clone it lies beside the examples.
emitter=${CLAUDE_LOOP_EMITTER:-$here/../bin/emit_progress.sh}
[[ -r $emitter ]] || emitter=emit_progress.sh
# shellcheck source=/dev/null
source "$emitter"

python=${PYTHON:-python3}
pause=${PAUSE:-1}
prd=${CLAUDE_LOOP_PRD:-DEMO-1}
stories=(US-001 US-002 US-003)
titles=("Cart totals" "Coupons" "Shipping")
max_iterations=6

work_on() { # STORY ATTEMPT: what the agent would do
  case $1.$2 in
    US-001.1)
      cat >cart.py <<'CODE'
def total(items):
    """Sum of (price, count) pairs, in cents."""
    return sum(price * count for price, count in items)
CODE
      cat >test_cart.py <<'CODE'
import unittest
from cart import total

class CartTotals(unittest.TestCase):
    def test_total(self):
        self.assertEqual(total([(250, 2), (100, 1)]), 600)

    def test_empty_cart(self):
        self.assertEqual(total([]), 0)
CODE
      ;;
    US-002.1) # rounds before it multiplies, and has no lower bound: two tests will say so
      cat >coupon.py <<'CODE'
def discounted(cents, percent):
    """The price after a coupon, in cents."""
    return cents - cents // 100 * percent
CODE
      cat >test_coupon.py <<'CODE'
import unittest
from coupon import discounted

class Coupons(unittest.TestCase):
    def test_ten_percent(self):
        self.assertEqual(discounted(1000, 10), 900)

    def test_rounding(self):
        self.assertEqual(discounted(250, 10), 225)

    def test_never_below_zero(self):
        self.assertEqual(discounted(100, 150), 0)
CODE
      ;;
    US-002.2)
      cat >coupon.py <<'CODE'
def discounted(cents, percent):
    """The price after a coupon, in cents, never below zero."""
    return max(0, cents - cents * percent // 100)
CODE
      ;;
    US-003.1)
      cat >shipping.py <<'CODE'
def shipping(cents):
    """Shipping is free from 50.00 up."""
    return 0 if cents >= 5000 else 490
CODE
      cat >test_shipping.py <<'CODE'
import unittest
from shipping import shipping

class Shipping(unittest.TestCase):
    def test_small_order(self):
        self.assertEqual(shipping(1000), 490)

    def test_free_from_fifty(self):
        self.assertEqual(shipping(5000), 0)
CODE
      ;;
  esac
}

run_tests() { # STORY: runs them, reports the counts, and has their status
  local story=$1 output status=0 line passed ran=0 failed=0 failing=()
  output=$("$python" -m unittest 2>&1) || status=$?
  while IFS= read -r line; do
    if [[ $line =~ ^Ran\ ([0-9]+)\ test ]]; then ran=${BASH_REMATCH[1]}; fi
    if [[ $line =~ ^(FAIL|ERROR):\ ([A-Za-z0-9_]+) ]]; then
      failing+=("${BASH_REMATCH[2]}")
      failed=$((failed + 1))
    fi
  done <<<"$output"
  passed=$((ran - failed))
  emit_test_run "$prd" "$story" "$passed" "$failed" ${failing[@]+"${failing[@]}"}
  return "$status"
}

commit() { # STORY TITLE
  local subject="feat: [$1] - $2"
  git add -A
  git commit -q -m "$subject"
  emit_commit_created "$prd" "$1" "$(git rev-parse --short HEAD)" "$subject"
}

wait_for_rate_limit() { # the agent's usage limit was reached: nothing to do but wait
  local seconds=$((pause * 3))
  emit_waiting "$prd" rate_limit "usage limit reached" "$(date -u -d "+$seconds seconds" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || true)"
  sleep "$seconds"
  emit_resumed "$prd"
}

directory=${1:-$(mktemp -d)}
mkdir -p "$directory"
cd "$directory"
git init -q .
git config user.name "PRD loop"
git config user.email "loop@example.invalid"
git config commit.gpgsign false
printf '__pycache__/\n' >.gitignore

iteration=0 success=false
trap 'emit_prd_completed "$prd" "$success"' EXIT # however it ends
emit_prd_started "$prd" "${#stories[@]}"
for index in "${!stories[@]}"; do
  story=${stories[index]} title=${titles[index]}
  for attempt in 1 2 3; do
    iteration=$((iteration + 1))
    emit_iteration "$prd" "$iteration" "$max_iterations"
    emit_story_started "$prd" "$story"
    sleep "$pause"
    work_on "$story" "$attempt"
    if run_tests "$story"; then
      commit "$story" "$title"
      emit_story_completed "$prd" "$story" true
      if [[ $story == US-002 ]]; then wait_for_rate_limit; fi
      continue 2
    fi
  done
  emit_story_completed "$prd" "$story" false
  exit 1
done
success=true
