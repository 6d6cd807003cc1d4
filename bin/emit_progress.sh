#!/usr/bin/env bash
# claude-loop's emitter. `source emit_progress.sh`, then `emit_story_started PRD-001 US-001`, and so on.
# Each call appends one JSON line to a spool file that the daemon drains. docs/bash.md is the contract.
#
# It runs inside somebody else's script, whose options, traps, functions and variables are unknown. Hence:
#   - every public function ends in `|| (( 1 ))`, a keyword: status 0, and `set -e` sleeps inside;
#   - stderr is closed off at the call, not in the body: bash restores LC_ALL after the body, and may complain;
#   - `\builtin` keeps aliases and functions named like builtins out; variables have long prefixes, because
#     a caller's `readonly i` would be fatal; no arrays, no `=~` (BASH_REMATCH is the caller's), no IFS, no $RANDOM;
#   - a trap of the caller may emit between any two commands here, so shared state changes in single commands.

if [ -z "${BASH_VERSION-}" ]; then
  echo 'emit_progress.sh needs bash; this is another shell.' >&2
  return 1 2>/dev/null || exit 1
fi

# ---- The functions for scripts -------------------------------------------------------------------------------
# A long last argument travels in __cl_text: handing 1 MB to one more function costs 10 ms, 40 in UTF-8.

emit_prd_started() { __claude_loop_emit prd_started "$@" 2>/dev/null || (( 1 )); }
emit_prd_completed() { __claude_loop_emit prd_completed "$@" 2>/dev/null || (( 1 )); }
emit_story_started() { __claude_loop_emit story_started "$@" 2>/dev/null || (( 1 )); }
emit_story_completed() { __claude_loop_emit story_completed "$@" 2>/dev/null || (( 1 )); }
emit_test_run() { __claude_loop_emit test_run "$@" 2>/dev/null || (( 1 )); }
emit_iteration() { __claude_loop_emit iteration "$@" 2>/dev/null || (( 1 )); }
emit_resumed() { __claude_loop_emit resumed "$@" 2>/dev/null || (( 1 )); }
emit_event() { __claude_loop_emit event "$@" 2>/dev/null || (( 1 )); }

emit_commit_created() {
  \builtin local __cl_text || (( 1 ))
  __cl_text=${4-}
  __claude_loop_emit commit_created "${1-}" "${2-}" "${3-}" 2>/dev/null || (( 1 ))
}

emit_error() {
  \builtin local __cl_text || (( 1 ))
  __cl_text=${3-}
  __claude_loop_emit error "${1-}" "${2-}" 2>/dev/null || (( 1 ))
}

emit_log_message() {
  \builtin local __cl_text || (( 1 ))
  __cl_text=${4-}
  __claude_loop_emit log_message "${1-}" "${2-}" "${3-}" 2>/dev/null || (( 1 ))
}

emit_progress() {
  \builtin local __cl_text || (( 1 ))
  __cl_text=${5-}
  __claude_loop_emit progress "${1-}" "${2-}" "${3-}" "${4-}" 2>/dev/null || (( 1 ))
}

emit_waiting() {
  \builtin local __cl_text || (( 1 ))
  __cl_text=${3-}
  __claude_loop_emit waiting "${1-}" "${2-}" "${4-}" 2>/dev/null || (( 1 ))
}

# Wait until what this shell emitted is committed. Status 1: not within SECONDS (5), or something could not be
# written at all. The only function here that fails.
emit_flush() {
  if [[ ${CLAUDE_LOOP_DISABLE-} == 1 || -z ${__claude_loop_stem-} ]]; then return 0; fi
  \builtin local __cl_marker='' __cl_ms=0
  if ! __claude_loop_ask "${1-}" 2>/dev/null; then return 1; fi
  # Not silenced as a whole: a trap of the caller that fires during the wait may have something to say.
  if ! __claude_loop_await; then return 1; fi
  if [[ -n ${__claude_loop_lost-} ]]; then return 1; fi
}

# ---- What each event holds -----------------------------------------------------------------------------------

__claude_loop_describe() { # KIND ARG...: set the type, the ids and the data of the record being made
  case $1 in
    (prd_started)
      __cl_type=prd.started __cl_prd=${2-} __cl_data=',"status":"running"'
      if [[ -n ${3-} ]]; then __claude_loop_count total_stories "$3"; fi
      if [[ -z ${__claude_loop_executed-} ]]; then __claude_loop_owner; fi ;;
    (prd_completed) __cl_type=prd.completed __cl_prd=${2-}; __claude_loop_outcome "${3-}" ;;
    (story_started) __cl_type=story.started __cl_prd=${2-} __cl_story=${3-} __cl_data=',"status":"in_progress"' ;;
    (story_completed)
      __cl_type=story.completed __cl_prd=${2-} __cl_story=${3-}
      __claude_loop_outcome "${4-}" ;;
    (test_run) __cl_type=test.run __cl_prd=${2-} __cl_story=${3-}; __claude_loop_tests "$@" ;;
    (commit_created)
      __cl_type=commit.created __cl_prd=${2-} __cl_story=${3-}
      __claude_loop_text commit_hash "${4-}"
      if [[ -n $__cl_text ]]; then __claude_loop_long subject; fi ;;
    (error) __cl_type=error.occurred __cl_prd=${2-} __cl_story=${3-}; __claude_loop_long error ;;
    (log_message)
      __cl_type=log.message __cl_prd=${2-} __cl_story=${3-}
      __claude_loop_text level "${4-}"
      __claude_loop_long message ;;
    (progress)
      __cl_type=progress.updated __cl_prd=${2-} __cl_story=${3-}
      __claude_loop_number current "${4-}"
      __claude_loop_number total "${5-}"
      if [[ -n $__cl_text ]]; then __claude_loop_long message; fi ;;
    (iteration)
      __cl_type=iteration.started __cl_prd=${2-}
      __claude_loop_count iteration "${3-}"
      if [[ -n ${4-} ]]; then __claude_loop_count max_iterations "$4"; fi ;;
    (waiting)
      __cl_type=agent.waiting __cl_prd=${2-}
      __claude_loop_text for "${3-}"
      __claude_loop_long reason
      if [[ -n ${4-} ]]; then __claude_loop_number until "$4"; fi ;;
    (resumed) __cl_type=agent.resumed __cl_prd=${2-} ;;
    (event) __claude_loop_arguments "$@" ;;
  esac
}

__claude_loop_outcome() { # SUCCESS: true when left out; anything but true and false is passed on for the daemon to mark
  case ${1:-true} in
    (true) __cl_data=',"success":true,"status":"completed"' ;;
    (false) __cl_data=',"success":false,"status":"failed"' ;;
    (*) __claude_loop_text success "$1" ;;
  esac
}

__claude_loop_tests() { # KIND PRD STORY PASSED FAILED [NAME]...
  \builtin local __cl_names __cl_left
  __cl_names='' __cl_left=50 # the payload takes 50 failures
  __claude_loop_count passed "${4-}"
  __claude_loop_count failed "${5-}"
  if (( $# <= 5 )); then \builtin return 0; fi
  \builtin shift 5
  for __cl_json do
    if (( __cl_left-- <= 0 )); then \builtin break; fi
    __claude_loop_quote "$__cl_json"
    __cl_names+=",{\"name\":$__cl_json}"
  done
  __cl_data+=",\"failures\":[${__cl_names#,}]"
}

__claude_loop_arguments() { # event TYPE [key=value | key:=JSON]...
  \builtin local __cl_argument __cl_key __cl_bare
  __cl_type=${2-} __cl_bare=''
  if (( $# < 2 )); then \builtin return 0; fi
  \builtin shift 2
  for __cl_argument do
    __cl_key=${__cl_argument:0:1024}
    __cl_key=${__cl_key%%=*} __cl_text=${__cl_argument#*=}
    case $__cl_key in
      ('' | : | "$__cl_argument") __claude_loop_quote "$__cl_argument"; __cl_bare+=,$__cl_json ;;
      (project | project:) __cl_project=$__cl_text ;;
      (prd | prd:) __cl_prd=$__cl_text ;;
      (story | story:) __cl_story=$__cl_text ;;
      (run | run:) __cl_run=$__cl_text ;;
      (session | session:) __cl_session=$__cl_text ;;
      (*:) __claude_loop_raw "${__cl_key%:}" ;;
      (*) __claude_loop_long "$__cl_key" ;;
    esac
  done
  # Words that are no key=value are kept where they can be seen.
  if [[ -n $__cl_bare ]]; then __cl_data+=",\"_arguments\":[${__cl_bare#,}]"; fi
}

__claude_loop_owner() { # who runs this PRD: $$, even in a subshell; start time and boot tell it from a later $$
  \builtin local __cl_line __cl_ticks __cl_i
  if ! __claude_loop_first_line "/proc/$$/stat"; then \builtin return 0; fi
  __cl_ticks=${__cl_line##*) } # the name in parentheses may hold anything; field 3 follows it
  for (( __cl_i = 3; __cl_i < 22; __cl_i++ )); do __cl_ticks=${__cl_ticks#* }; done
  __cl_ticks=${__cl_ticks%% *}
  __claude_loop_first_line /proc/sys/kernel/random/boot_id || __cl_line=''
  case $__cl_ticks$__cl_line in ('' | *[!0123456789abcdef-]*) \builtin return 0 ;; esac
  __cl_data+=",\"owner\":{\"pid\":$$,\"start_ticks\":$__cl_ticks,\"boot_id\":\"$__cl_line\"}"
}

# ---- JSON ----------------------------------------------------------------------------------------------------

__claude_loop_text() { # KEY VALUE: one more string in the data
  __claude_loop_quote "$2"
  __cl_data+=",\"$1\":$__cl_json"
}

__claude_loop_long() { # KEY: the same for __cl_text; the key may be anything
  \builtin local __cl_quoted
  __claude_loop_quote "$1"
  __cl_quoted=$__cl_json __cl_json=$__cl_text
  __claude_loop_string
  __cl_data+=,$__cl_quoted:$__cl_json
}

__claude_loop_count() { # KEY VALUE: an integer where it is one, else a string, which the daemon marks
  \builtin local __cl_n __cl_sign
  __cl_n=${2#"${2%%[! ]*}"} # `wc -l` pads with spaces on macOS
  __cl_n=${__cl_n%"${__cl_n##*[! ]}"} __cl_sign=''
  if [[ $__cl_n == -* ]]; then __cl_n=${__cl_n#-} __cl_sign=-; fi
  case $__cl_n in
    ('' | *[!0123456789]*) __claude_loop_text "$1" "$2" ;;
    (*)
      if (( ${#__cl_n} > 18 )); then __claude_loop_text "$1" "$2"; \builtin return 0; fi
      __cl_n=${__cl_n#"${__cl_n%%[!0]*}"} # 08 is 8; JSON has no leading zeros
      __cl_data+=",\"$1\":$__cl_sign${__cl_n:-0}" ;;
  esac
}

__claude_loop_number() { # KEY VALUE: like __claude_loop_count, for numbers with a fraction
  if __claude_loop_is_number "$2"; then
    __cl_data+=",\"$1\":$2"
  else
    __claude_loop_count "$1" "$2"
  fi
}

__claude_loop_raw() { # KEY: __cl_text as JSON if it is JSON, else as a string
  if (( ${#__cl_text} <= 16384 )) && __claude_loop_is_json; then
    __claude_loop_quote "$1"
    __cl_data+=,$__cl_json:${__cl_text//[$'\t\n\r']/ } # white space between tokens; inside strings is_json refuses it
  else
    __claude_loop_long "$1"
  fi
}

__claude_loop_quote() { # VALUE: __cl_json becomes it as a JSON string
  __cl_json=$1
  __claude_loop_string
}

__claude_loop_string() { # the same in place
  # 16 KiB a value, and 64 KiB a record, from which on 256 bytes of a value must do.
  if (( ${#__cl_json} > 16384 || ${#__cl_json} > __cl_room )); then __claude_loop_cut; fi
  (( __cl_room -= ${#__cl_json}, 1 ))
  if [[ $__cl_json == *[[:cntrl:]\\\"]* ]]; then __claude_loop_escape; fi
  __cl_json=\"$__cl_json\"
}

__claude_loop_cut() {
  \builtin local __cl_limit __cl_end __cl_code
  __cl_limit=$(( __cl_room > 16384 ? 16384 : __cl_room > 256 ? __cl_room : 256 ))
  if (( ${#__cl_json} <= __cl_limit )); then \builtin return 0; fi
  for (( __cl_end = __cl_limit; __cl_end > __cl_limit - 4; __cl_end-- )); do
    \builtin printf -v __cl_code %d "'${__cl_json:__cl_end:1}"
    # 10xxxxxx continues a UTF-8 character: cut in front of its first byte. Four in a row are no UTF-8.
    if (( (__cl_code & 0xC0) != 0x80 )); then \builtin break; fi
  done
  if (( __cl_end == __cl_limit - 4 )); then __cl_end=$__cl_limit; fi
  __cl_json="${__cl_json:0:__cl_end}…[$(( ${#__cl_json} - __cl_end )) bytes cut]"
}

__claude_loop_escape() {
  \builtin local __cl_rest __cl_part __cl_i __cl_byte __cl_hex
  __cl_rest=$__cl_json __cl_json=''
  while [[ -n $__cl_rest ]]; do # in chunks: ${s//…} is quadratic
    __cl_part=${__cl_rest:0:2048} __cl_rest=${__cl_rest:2048}
    __cl_part=${__cl_part//\\/\\\\}
    __cl_part=${__cl_part//\"/\\\"}
    __cl_part=${__cl_part//$'\n'/\\n}
    __cl_part=${__cl_part//$'\t'/\\t}
    __cl_part=${__cl_part//$'\033'/\\u001b} # colours: the one other control character of everyday output
    if [[ $__cl_part == *[[:cntrl:]]* ]]; then
      for (( __cl_i = 1; __cl_i < 32; __cl_i++ )); do
        \builtin printf -v __cl_hex '%02x' "$__cl_i"
        \builtin printf -v __cl_byte "\\x$__cl_hex"
        if [[ $__cl_part == *"$__cl_byte"* ]]; then __cl_part=${__cl_part//"$__cl_byte"/\\u00$__cl_hex}; fi
      done
    fi
    __cl_json+=$__cl_part
  done
}

__claude_loop_is_number() { # TEXT: a JSON number that every parser can hold
  \builtin local __cl_whole __cl_tail __cl_digits
  __cl_tail=${1#-}
  __cl_whole=${__cl_tail%%[!0123456789]*}
  __cl_tail=${__cl_tail#"$__cl_whole"}
  case $__cl_whole in ('' | 0?*) \builtin return 1 ;; esac
  if [[ $__cl_tail == .* ]]; then
    __cl_tail=${__cl_tail#.}
    __cl_digits=${__cl_tail%%[!0123456789]*}
    __cl_tail=${__cl_tail#"$__cl_digits"}
    if [[ -z $__cl_digits ]]; then \builtin return 1; fi
  fi
  if [[ $__cl_tail == [eE]* ]]; then
    __cl_tail=${__cl_tail#[eE]}
    __cl_tail=${__cl_tail#[-+]}
    case $__cl_tail in ([0123456789] | [0123456789][0123456789]) __cl_tail='' ;; (*) \builtin return 1 ;; esac
  fi
  [[ -z $__cl_tail && ${#1} -le 64 ]]
}

# Is __cl_text JSON? A parser by reduction: `${s//…}` runs in C, a loop over characters does not. Strings become `"`,
# then everything that is a value becomes #, `"key": value` becomes !, and `#,#` becomes #, until nothing changes.
# What it refuses is sent as a string, so it may refuse too much (depth over 32, huge numbers), never too little.
__claude_loop_is_json() {
  case $__cl_text in
    (true | false | null) \builtin return 0 ;;
    (\"* | \[*\] | \{*\}) ;;
    (*) __claude_loop_is_number "$__cl_text"; \builtin return ;;
  esac
  \builtin local __cl_t __cl_before __cl_i
  __cl_t=$__cl_text
  __claude_loop_reduce_escapes && __claude_loop_reduce_strings && __claude_loop_reduce_scalars || \builtin return 1
  case $__cl_t in
    (\#) \builtin return 0 ;;
    (\[*\]) __cl_t=${__cl_t#?} __cl_before='#' ;; # the outer pair goes first: else `[1],[2]` would reduce to #
    (\{*\}) __cl_t=${__cl_t#?} __cl_before='!' ;;
    (*) \builtin return 1 ;;
  esac
  __cl_t=${__cl_t%?}
  for (( __cl_i = 0; __cl_i < 200; __cl_i++ )); do
    if [[ -z $__cl_t || $__cl_t == "$__cl_before" ]]; then \builtin return 0; fi
    __claude_loop_reduce_nesting
  done
  \builtin return 1
}

__claude_loop_reduce_escapes() { # \n, \", \u00e9 … become ~, which no JSON has outside strings
  \builtin local __cl_x
  if [[ $__cl_t != *\\* ]]; then \builtin return 0; fi
  __cl_x='[0123456789abcdefABCDEF]'
  __cl_t=${__cl_t//\\\\/~}
  __cl_t=${__cl_t//\\[\"\/bfnrt]/~}
  # A surrogate pair is one character; half of one makes strict parsers refuse the whole record.
  __cl_t=${__cl_t//\\u[dD][89abAB]$__cl_x$__cl_x\\u[dD][cdefCDEF]$__cl_x$__cl_x/~}
  if [[ $__cl_t == *\\u[dD][89abcdefABCDEF]* ]]; then \builtin return 1; fi
  __cl_t=${__cl_t//\\u$__cl_x$__cl_x$__cl_x$__cl_x/~}
  [[ $__cl_t != *\\* ]]
}

__claude_loop_reduce_strings() { # every "string" becomes one quote; fails on control characters inside, or an odd quote
  \builtin local __cl_rest __cl_part __cl_piece __cl_inside
  __cl_rest=$__cl_t __cl_t='' __cl_inside=0
  while [[ -n $__cl_rest ]]; do
    __cl_part=${__cl_rest:0:256} __cl_rest=${__cl_rest:256}
    while (( 1 )); do
      __cl_piece=${__cl_part%%\"*}
      if (( __cl_inside )); then
        if [[ $__cl_piece == *[[:cntrl:]]* ]]; then \builtin return 1; fi
      else
        __cl_t+=$__cl_piece
      fi
      if [[ $__cl_part != *\"* ]]; then \builtin break; fi
      if (( __cl_inside )); then __cl_t+=\"; fi
      __cl_part=${__cl_part#*\"} __cl_inside=$(( ! __cl_inside ))
    done
  done
  (( ! __cl_inside ))
}

__claude_loop_reduce_scalars() {
  \builtin local __cl_d __cl_d16
  __cl_t=" ${__cl_t//[$'\t\n\r']/ }"
  case $__cl_t in (*[!]\[{}:,\"0123456789.eE+truefalsn\ -]*) \builtin return 1 ;; esac
  __cl_t=${__cl_t//true/#}
  __cl_t=${__cl_t//false/#}
  __cl_t=${__cl_t//null/#}
  __cl_d='[0123456789]' __cl_d16='????????????????'
  __cl_d16=${__cl_d16//\?/$__cl_d}
  case $__cl_t in # leading zeros; exponents and lengths that no double holds
    (*[!0123456789.eE+-]0$__cl_d* | *[!eE]-0$__cl_d*) \builtin return 1 ;;
    (*[eE]$__cl_d$__cl_d$__cl_d* | *[eE][-+]$__cl_d$__cl_d$__cl_d*) \builtin return 1 ;;
    (*$__cl_d16$__cl_d16$__cl_d16$__cl_d16*) \builtin return 1 ;;
  esac
  __cl_t=${__cl_t//$__cl_d/9}
  while [[ $__cl_t == *99* ]]; do __cl_t=${__cl_t//99/9}; done
  __cl_t=${__cl_t//9[eE]9/@}
  __cl_t=${__cl_t//9[eE][-+]9/@}
  __cl_t=${__cl_t//9.[9@]/%}
  __cl_t=${__cl_t//[9@]/%}
  __cl_t=${__cl_t//-%/#}
  __cl_t=${__cl_t//%/#}
  __cl_t=${__cl_t// /}
  __cl_t=${__cl_t//\":/;}
  __cl_t=${__cl_t//\"/#}
}

__claude_loop_reduce_nesting() {
  __cl_t=${__cl_t//;#/!}
  __cl_t=${__cl_t//!,!/!}
  __cl_t=${__cl_t//#,#/#}
  __cl_t=${__cl_t//\{!\}/#}
  __cl_t=${__cl_t//\{\}/#}
  __cl_t=${__cl_t//\[#\]/#}
  __cl_t=${__cl_t//\[\]/#}
}

# ---- The record and its file ---------------------------------------------------------------------------------

__claude_loop_emit() { # KIND ARG...
  if [[ ${CLAUDE_LOOP_DISABLE-} == 1 ]]; then \builtin return 0; fi
  \builtin local __cl_type __cl_project __cl_prd __cl_story __cl_run __cl_session __cl_data __cl_json __cl_room \
    __cl_probe __cl_locale __cl_case __cl_now __cl_time
  __cl_type='' __cl_project='' __cl_prd='' __cl_story='' __cl_run='' __cl_session='' __cl_data='' __cl_json=''
  __cl_probe=$'\xc3\xa9\x83\x5c' __cl_locale='' __cl_case='' __cl_room=65536
  # Bytes, not characters, unless LC_ALL is readonly. A locale that takes the probe for four characters does already.
  if (( ${#__cl_probe} < 4 )); then
    __cl_locale=${LC_ALL-}
    if \builtin local LC_ALL; then LC_ALL=C; else __cl_locale=''; fi
  fi
  # shellcheck disable=SC2050 # constant unless the caller has set nocasematch
  if [[ a == A ]]; then \builtin shopt -u nocasematch; __cl_case=1; fi
  __claude_loop_describe "$@"
  if [[ -n $__cl_type ]]; then __claude_loop_send; fi
  if [[ -n $__cl_case ]]; then \builtin shopt -s nocasematch; fi
  if [[ -n $__cl_locale ]]; then
    LC_ALL=$__cl_locale
    # An LC_ALL that does not exist here (set after the start) would leave bash in C: LANG was in force, so go back to it.
    if (( ${#__cl_probe} == 4 )); then LC_ALL=; fi
  fi
}

__claude_loop_send() { # append the record; note a failure for emit_flush
  \builtin local __cl_ids __cl_home __cl_stem __cl_n __cl_file
  __cl_ids=''
  __claude_loop_project
  __claude_loop_id prd_id "${__cl_prd:-${CLAUDE_LOOP_PRD-}}"
  __claude_loop_id story_id "${__cl_story:-${CLAUDE_LOOP_STORY-}}"
  __claude_loop_id run_id "${__cl_run:-${CLAUDE_LOOP_RUN-}}"
  __claude_loop_id session_id "${__cl_session:-${CLAUDE_LOOP_SESSION-}}"
  __claude_loop_quote "$__cl_type"
  __cl_type=$__cl_json
  __claude_loop_home
  __claude_loop_identify
  __claude_loop_timestamp
  __cl_n=$(( ++__claude_loop_n )) __cl_stem=$__claude_loop_stem
  __cl_file=$__cl_home/spool/$__cl_stem.jsonl
  __cl_json="{\"id\":\"$__cl_stem.$__cl_n\",\"type\":$__cl_type$__cl_ids,\"source\":\"bash\""
  __cl_json+=",\"timestamp\":\"$__cl_time\",\"data\":{${__cl_data#,}}}"
  if __claude_loop_append; then
    if [[ $__cl_stem == "$__claude_loop_stem" ]]; then
      (( __claude_loop_written = __cl_n > __claude_loop_written ? __cl_n : __claude_loop_written, 1 ))
    fi
  else
    __claude_loop_lost=1
  fi
}

__claude_loop_id() { # KEY VALUE
  if [[ -n $2 ]]; then
    __claude_loop_quote "$2"
    __cl_ids+=",\"$1\":$__cl_json"
  fi
}

__claude_loop_project() { # the nearest directory upwards that has a .git, else the current one; remembered per directory
  \builtin local __cl_directory
  __cl_project=${__cl_project:-${CLAUDE_LOOP_PROJECT-}}
  if [[ -z $__cl_project && -n ${PWD-} ]]; then
    if [[ $PWD != "${__claude_loop_project_of-}" ]]; then
      __cl_directory=$PWD
      while [[ -n $__cl_directory && ! -e $__cl_directory/.git ]]; do __cl_directory=${__cl_directory%/*}; done
      __cl_directory=${__cl_directory:-$PWD}
      __claude_loop_project_of=$PWD __claude_loop_project_is=${__cl_directory##*/}
    fi
    __cl_project=$__claude_loop_project_is
  fi
  __claude_loop_id project "$__cl_project"
}

__claude_loop_home() {
  __cl_home=${CLAUDE_LOOP_HOME-}
  if [[ -z $__cl_home ]]; then
    __cl_home=${XDG_STATE_HOME-}
    if [[ $__cl_home != /* ]]; then __cl_home=${HOME-~}/.local/state; fi
    __cl_home+=/claude-loop
  elif [[ $__cl_home != /* ]]; then
    __cl_home=${PWD-}/$__cl_home
  fi
}

# A file of one's own for every process: a child inherits this state and must not write under its parent's name.
__claude_loop_identify() {
  \builtin local __cl_pid __cl_key __cl_random
  __cl_pid=''
  if (( ${__claude_loop_level:-3} >= 4 )); then __cl_pid=${BASHPID-}; fi
  if [[ -z $__cl_pid ]]; then __claude_loop_old_pid; fi
  __cl_key=$__cl_pid.${BASH_SUBSHELL-}.$__cl_home
  if [[ $__cl_key == "${__claude_loop_key-}" ]]; then \builtin return 0; fi
  __claude_loop_now
  __cl_random=''
  if (( ${__claude_loop_level:-3} >= 5 )); then __cl_random=${SRANDOM-}; fi
  if [[ -z $__cl_random ]]; then __claude_loop_old_random; fi
  # One command: a trap that emits between two of these would number two records alike.
  __claude_loop_key=$__cl_key __claude_loop_stem=$__cl_now-$__cl_pid-$__cl_random __claude_loop_n=0 \
    __claude_loop_written=0 __claude_loop_lost=''
}

__claude_loop_old_pid() { # before bash 4 there is no BASHPID
  \builtin local __cl_line
  if __claude_loop_first_line /proc/self/stat; then
    __cl_pid=${__cl_line%% *}
  else
    # shellcheck disable=SC2016 # the new sh's parent is this process
    __cl_pid=$(\builtin exec /bin/sh -c 'echo $PPID') || __cl_pid=$$
  fi
}

__claude_loop_old_random() { # not $RANDOM: a script that has seeded it counts on its sequence
  \builtin local __cl_bytes __cl_i __cl_code __cl_sum
  __cl_bytes='' __cl_sum=0
  \builtin read -r -n 8 -d '' __cl_bytes </dev/urandom || __cl_bytes+=$$
  for (( __cl_i = 0; __cl_i < ${#__cl_bytes}; __cl_i++ )); do
    \builtin printf -v __cl_code %d "'${__cl_bytes:__cl_i:1}"
    (( __cl_sum = __cl_sum * 257 + __cl_code & 0xFFFFFFFF, 1 ))
  done
  __cl_random=$__cl_sum
}

__claude_loop_now() { # __cl_now: microseconds since the epoch
  __cl_now=''
  if (( ${__claude_loop_level:-3} >= 5 )); then __cl_now=${EPOCHREALTIME-}; fi
  __cl_now=${__cl_now//[!0123456789]/} # the point is a comma in some locales
  if (( ${#__cl_now} != 16 )); then __claude_loop_old_now; fi
}

__claude_loop_old_now() { # one process: GNU date, else Perl, else whole seconds
  if (( ${__claude_loop_level:-3} >= 3 )); then
    __cl_now=$(\builtin command -p date +%s%N) || __cl_now=''
    if [[ $__cl_now != *[!0123456789]* ]] && (( ${#__cl_now} == 19 )); then __cl_now=${__cl_now%???}; \builtin return 0; fi
  fi
  __cl_now=$(\builtin command -p perl -MTime::HiRes=time -e 'printf "%.0f", time * 1e6') || __cl_now=''
  if [[ $__cl_now != *[!0123456789]* ]] && (( ${#__cl_now} == 16 )); then \builtin return 0; fi
  __cl_now=$(\builtin command -p date +%s) || __cl_now=0
  case $__cl_now in ('' | *[!0123456789]*) __cl_now=0 ;; esac
  __cl_now+=000000
}

__claude_loop_timestamp() { # __cl_time; the calendar is computed once a day: `printf %(…)T` needs a TZ and bash 4.2
  \builtin local __cl_second __cl_day __cl_z __cl_e __cl_y __cl_d __cl_m __cl_date
  __claude_loop_now
  __cl_second=${__cl_now%??????}
  __cl_day=$(( ${__cl_second:-0} / 86400 )) __cl_second=$(( ${__cl_second:-0} % 86400 ))
  __cl_date=${__claude_loop_date-} # one variable holds day and date, so that a trap cannot part them
  if [[ ${__cl_date%%:*} != "$__cl_day" ]]; then
    # Days to a date, counting years from March, so that the leap day is a year's last.
    (( __cl_z = __cl_day + 719468, __cl_e = __cl_z % 146097,
       __cl_y = (__cl_e - __cl_e / 1460 + __cl_e / 36524 - __cl_e / 146096) / 365,
       __cl_d = __cl_e - (365 * __cl_y + __cl_y / 4 - __cl_y / 100), __cl_m = (5 * __cl_d + 2) / 153,
       __cl_d = __cl_d - (153 * __cl_m + 2) / 5 + 1, __cl_y += __cl_z / 146097 * 400,
       __cl_m = __cl_m < 10 ? __cl_m + 3 : __cl_m - 9, __cl_y += __cl_m <= 2, 1 ))
    \builtin printf -v __cl_date '%d:%04d-%02d-%02d' "$__cl_day" "$__cl_y" "$__cl_m" "$__cl_d"
    __claude_loop_date=$__cl_date
  fi
  \builtin printf -v __cl_time '%sT%02d:%02d:%02d.%sZ' "${__cl_date#*:}" "$(( __cl_second / 3600 ))" \
    "$(( __cl_second / 60 % 60 ))" "$(( __cl_second % 60 ))" "${__cl_now: -6}"
}

__claude_loop_append() {
  if [[ ! -e $__cl_file ]]; then __claude_loop_create spool "$__cl_file" || \builtin return 1; fi
  # The leading newline ends whatever a full disk or a crash tore off before it. Not in the format: that would
  # be a write of its own. (Up to 4096 bytes go out in one write; stdio splits what is longer.)
  if (( ${__claude_loop_level:-3} >= 4 )); then
    \builtin printf %s $'\n'"$__cl_json"$'\n' >>"$__cl_file"
  else
    # Bash 3.2 keeps what it could not write, to print it later, on the script's stdout. A subshell takes it along.
    ( \builtin printf %s $'\n'"$__cl_json"$'\n' ) >>"$__cl_file"
  fi
}

__claude_loop_create() { # DIRECTORY FILE: an empty file 0600, in a directory 0700 below the home
  \builtin local __cl_umask __cl_status __cl_above
  if [[ ! -d $__cl_home/$1 ]]; then
    __cl_above=$__cl_home
    while [[ -n $__cl_above && ! -e $__cl_above ]]; do __cl_above=${__cl_above%/*}; done
    # sudo may keep HOME: a state directory of root's would lock its owner's daemon out.
    if (( ${EUID:-0} == 0 )) && [[ ! -O ${__cl_above:-/} ]]; then \builtin return 1; fi
    ( \builtin umask 077 && \builtin command -p mkdir -p -- "$__cl_home/$1" ) || \builtin return 1
  fi
  if [[ ! -O $__cl_home/$1 ]]; then \builtin return 1; fi # somebody else's directory: its owner could swap the file
  __claude_loop_umask
  __cl_status=0
  \builtin umask 077
  \builtin printf '' >>"$2" || __cl_status=1
  \builtin umask "$__cl_umask"
  \builtin return "$__cl_status"
}

__claude_loop_umask() { # `umask` only prints, and to catch that takes a process; Linux tells
  \builtin local __cl_line
  __cl_umask=''
  if __claude_loop_first_line /proc/self/status 1 && [[ $__cl_line == Umask:* ]]; then
    __cl_umask=${__cl_line##*[!01234567]}
  fi
  if [[ -z $__cl_umask ]]; then __cl_umask=$(\builtin umask); fi
}

__claude_loop_first_line() { # FILE [SKIP]: __cl_line becomes its first line, or the one after SKIP
  __cl_line=''
  if (( ${__claude_loop_level:-3} <= 2 )) || [[ ! -r $1 ]]; then \builtin return 1; fi
  if (( ${__claude_loop_level:-3} >= 4 )); then
    \builtin mapfile -t -s "${2:-0}" -n 1 __cl_line <"$1"
  elif [[ -z ${2-} ]]; then
    IFS='' \builtin read -r __cl_line <"$1"
  else
    \builtin return 1
  fi
}

# ---- emit_flush ----------------------------------------------------------------------------------------------

__claude_loop_ask() { # SECONDS: leave a marker that the daemon removes, and set how long to wait for that
  \builtin local __cl_home __cl_whole __cl_part
  case ${1:-5} in
    (*[!0123456789.,]* | *[.,]*[.,]* | [.,]) __cl_ms=5000 ;;
    (*)
      __cl_whole=${1:-5}
      __cl_part=${__cl_whole#"${__cl_whole%%[.,]*}"}000 __cl_whole=0${__cl_whole%%[.,]*}
      __cl_part=${__cl_part#[.,]}
      if (( ${#__cl_whole} > 10 )); then __cl_whole=999999999; fi
      __cl_ms=$(( 10#$__cl_whole * 1000 + 10#${__cl_part:0:3} )) ;;
  esac
  __claude_loop_home
  __claude_loop_identify
  if (( __claude_loop_written == 0 )); then \builtin return 0; fi
  __cl_marker=$__cl_home/flush/$__claude_loop_stem.$__claude_loop_written
  __claude_loop_create flush "$__cl_marker"
}

__claude_loop_await() { # until the marker is gone
  if [[ -z $__cl_marker ]]; then return 0; fi
  if (( ${__claude_loop_level:-3} >= 5 )); then
    # A pipe that never has anything to read is a clock that takes no process: bash makes one for a here-string, and
    # opening it again for reading and writing means it never ends either. Elsewhere than on Linux this fails.
    { if \builtin read -r -u 57 && ! __claude_loop_poll pipe; then return 1; fi; } 2>/dev/null 57<<<'' 58<>/dev/fd/57
  fi
  __claude_loop_poll sleep
}

__claude_loop_poll() { # pipe | sleep
  return 0
}

# ---- Once, when sourced --------------------------------------------------------------------------------------
