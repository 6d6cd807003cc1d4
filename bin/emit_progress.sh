#!/usr/bin/env bash
# claude-loop's emitter. `source emit_progress.sh`, then `emit_story_started PRD-001 US-001`, and so on.
# Each call appends one JSON line to a spool file that the daemon drains. docs/bash.md is the contract.
#
# It runs inside somebody else's script, whose options, traps, functions and variables are unknown. Hence:
#   - every public function ends in `|| (( 1 ))`, a keyword: status 0, and `set -e` sleeps inside;
#   - stderr is closed off at the call, not in the body: bash restores LC_ALL after the body, and may complain (unless
#     it is known to exist, see emit_error);
#   - `\builtin` keeps aliases and functions named like builtins out, and names are long, because a caller's
#     `readonly i` would be fatal; no arrays, no IFS, no `=~` (BASH_REMATCH is the caller's), no $RANDOM;
#   - a trap of the caller's may emit between any two commands here, so shared state changes in single commands.
# And it must be quick. Bash copies a whole function at each call and pays for each name of `local`, so what is usual
# is short and what is rare is a function of its own. An argument costs twice what an assignment or the word of a `case`
# does, and each character of it again.

if [ -z "${BASH_VERSION-}" ]; then
  echo 'emit_progress.sh needs bash; this is another shell.' >&2
  # shellcheck disable=SC2317 # reached when this is run, not sourced
  return 1 2>/dev/null || exit 1
fi

# ---- The functions for scripts -------------------------------------------------------------------------------
# A function without values goes straight to __claude_loop_emit. The others are built by way of __claude_loop_values.
# emit_test_run and emit_error, which are called most, do their work themselves, further down: a function less to call.
# A long text travels in __cl_text: handing 1 MB to one more function costs 10 ms, and 40 where it is not ASCII.

emit_prd_started() { __claude_loop_values __claude_loop_prd "${1-}" "${2-}" 2>/dev/null || (( 1 )); }
emit_prd_completed() {
  __claude_loop_values __claude_loop_success prd.completed "${1-}" '' "${2-true}" 2>/dev/null || (( 1 ))
}
emit_story_started() {
  __claude_loop_emit '"story.started"' '"status":"in_progress"' "${EPOCHREALTIME-}" "$@" 2>/dev/null || (( 1 ))
}
emit_story_completed() {
  __claude_loop_values __claude_loop_success story.completed "${1-}" "${2-}" "${3-true}" 2>/dev/null || (( 1 ))
}
emit_commit_created() {
  \builtin local __cl_text; __cl_text=${4-}
  __claude_loop_values __claude_loop_commit "${1-}" "${2-}" "${3-}" 2>/dev/null || (( 1 ))
}
emit_log_message() {
  \builtin local __cl_text; __cl_text=${4-}
  __claude_loop_values __claude_loop_log "${1-}" "${2-}" "${3-}" 2>/dev/null || (( 1 ))
}
emit_progress() {
  \builtin local __cl_text; __cl_text=${5-}
  __claude_loop_values __claude_loop_steps "${1-}" "${2-}" "${3-}" "${4-}" 2>/dev/null || (( 1 ))
}
emit_iteration() { __claude_loop_values __claude_loop_turn "${1-}" "${2-}" "${3-}" 2>/dev/null || (( 1 )); }
emit_waiting() {
  \builtin local __cl_text; __cl_text=${3-}
  __claude_loop_values __claude_loop_wait "${1-}" "${2-}" "${4-}" 2>/dev/null || (( 1 ))
}
emit_resumed() {
  \builtin local __cl_data; __cl_data=''
  __claude_loop_send '"agent.resumed"' "${1-}" '' 2>/dev/null || (( 1 ))
}
# Wait until what this shell emitted is committed; the only function here that fails. Status 1: not within
# SECONDS (5), or something could not be written at all.
emit_flush() {
  if [[ ${CLAUDE_LOOP_DISABLE:-0} != 0 || -z ${__claude_loop_own-} ]]; then \builtin return 0; fi
  \builtin local __cl_marker __cl_ms __cl_outcome __cl_clock __cl_trace __cl_forking
  __cl_marker='' __cl_ms=0 __cl_outcome='' __cl_clock=sleep __cl_trace='' __cl_forking=''
  if [[ $- == *x* ]]; then { __cl_trace=1; \builtin set +x; } 2>/dev/null; fi
  __claude_loop_ask "${1-}" 2>/dev/null || (( 1 ))
  if [[ -z $__cl_outcome ]]; then __claude_loop_await || (( 1 )); fi
  if [[ -n $__cl_trace ]]; then \builtin set -x; fi
  if [[ $__cl_outcome != committed ]]; then \builtin return 1; fi
}

# ---- What the events hold ------------------------------------------------------------------------------------
# Each puts together the data and hands it to __claude_loop_emit.

__claude_loop_prd() { # PRD STORIES
  __cl_data=',"status":"running"'
  if [[ -n $2 ]]; then __claude_loop_count total_stories "$2"; fi
  if [[ -z ${__claude_loop_executed-} ]]; then __claude_loop_owner; fi
  __claude_loop_send '"prd.started"' "$1" ''
}

# TYPE PRD STORY SUCCESS: anything but true and false, "" too, goes as it is: the daemon marks it, nobody guesses
__claude_loop_success() {
  case $4 in
    (true) __cl_data=',"success":true,"status":"completed"' ;;
    (false) __cl_data=',"success":false,"status":"failed"' ;;
    (*) __claude_loop_text success "$4" ;;
  esac
  __claude_loop_send "\"$1\"" "$2" "$3"
}

emit_test_run() { # PRD STORY PASSED FAILED [NAME]...
  {
    case $#:${3-}:${4-} in
      ([0123]:* | *:*[!0123456789:]* | *:0?*:* | *:0?* | *::* | *: | *:*:*:* | ??????????????????*)
        __claude_loop_values __claude_loop_results "$@" ;;
      (4:*)
        __claude_loop_emit '"test.run"' "\"passed\":$3,\"failed\":$4" "${EPOCHREALTIME-}" "$1" "$2" ;;
      (*)
        \builtin local __cl_data __cl_json
        __cl_data=$* __cl_json=€€ # see emit_error
        case ${__claude_loop_level-}${#__cl_json}:${#__cl_data} in
          (5[26]:? | 5[26]:?? | 5[26]:???) __cl_json=${__cl_data@Q} ;;
        esac
        case $__cl_json in
          (€€ | \$* | *\\* | *\"*) __claude_loop_values __claude_loop_results "$@"; \builtin return 0 ;;
        esac
        \builtin printf -v __cl_data ',{"name":"%s"}' "${@:5:50}"
        __cl_data=\"passed\":$3,\"failed\":$4,\"failures\":[${__cl_data:1}]
        __claude_loop_emit '"test.run"' '' "${EPOCHREALTIME-}" "$1" "$2" ;;
    esac
  } 2>/dev/null || (( 1 ))
}

__claude_loop_results() { # the same, with care
  __claude_loop_count passed "${3-}"
  __claude_loop_count failed "${4-}"
  if (( $# > 4 )); then __claude_loop_names "$@"; fi
  __claude_loop_send '"test.run"' "${1-}" "${2-}"
}

__claude_loop_names() { # PRD STORY PASSED FAILED NAME...: up to 50, as many as the payload takes
  \builtin local __cl_names __cl_left
  __cl_names='' __cl_left=50
  \builtin shift 4
  for __cl_json do
    if (( __cl_left-- <= 0 )); then \builtin break; fi
    __claude_loop_string
    __cl_names+=",{\"name\":$__cl_json}"
  done
  __cl_data+=",\"failures\":[${__cl_names:1}]"
}

__claude_loop_message() { # KEY: __cl_text under it
  __cl_json=$__cl_text
  __claude_loop_string
  __cl_data+=",\"$1\":$__cl_json"
}

# What bash quotes with $'…' is nearly a JSON string, see __claude_loop_unquote. Where it is not, and for a long text,
# there is __claude_loop_string.
emit_error() { # PRD STORY MESSAGE
  {
    \builtin local __cl_data __cl_json __cl_text
    __cl_data=€€ __cl_json='$\0' __cl_text=${3-} # two characters in UTF-8, six where they are bytes
    case ${BASH_COMPAT-}:${__claude_loop_level-}${#__cl_data}:${#__cl_text} in
      (:5[26]:? | :5[26]:?? | :5[26]:???) __cl_json=${__cl_text@Q} ;;
    esac
    case $__cl_json in # *[\\\"]* takes three times as long
      (*\\* | *\"*)
        case ${LC_ALL-} in # bytes are faster to replace than characters; set back to these it makes no complaint
          ('' | "${__claude_loop_locale-}") \builtin local "LC_ALL=C" && __claude_loop_unquote ;;
          (*) (( 0 )) ;; # __claude_loop_check_locale has to see it
        esac || { __claude_loop_values __claude_loop_failure "${1-}" "${2-}"; \builtin return 0; }
        __cl_data=\"error\":\"${__cl_json//\"/\\\"}\" ;;
      (*) __cl_data=\"error\":\"$__cl_text\" ;;
    esac
    __claude_loop_emit '"error.occurred"' '' "${EPOCHREALTIME-}" "${1-}" "${2-}"
  } 2>/dev/null || (( 1 ))
}

# __cl_json as bash quotes it, and with something to escape, becomes what stands between the quotes of a JSON string, but
# for ". To be called in the C locale. Status 1: more than ESC, ' and \ is different.
__claude_loop_unquote() {
  case $__cl_json in
    (\$*\\[abfv0123456789]* | \$*\\\\[E\']*) \builtin return 1 ;;
    (\$*)
      __cl_json=${__cl_json:2:-1}
      case $__cl_json in (*\\\'*) __cl_json=${__cl_json//\\\'/\'} ;; esac
      case $__cl_json in (*\\E*) __cl_json=${__cl_json//\\E/\\u001b} ;; esac ;;
    (*\\*) __cl_json=${__cl_json:1:-1} __cl_json=${__cl_json//\'\\\'\'/\'} __cl_json=${__cl_json//\\/\\\\} ;;
    (*) __cl_json=${__cl_json:1:-1} ;;
  esac
}

__claude_loop_failure() { # PRD STORY: the same, with care
  __claude_loop_message error
  __claude_loop_send '"error.occurred"' "$1" "$2"
}

__claude_loop_commit() { # PRD STORY HASH
  __claude_loop_text commit_hash "$3"
  if [[ -n $__cl_text ]]; then __claude_loop_message subject; fi
  __claude_loop_send '"commit.created"' "$1" "$2"
}

__claude_loop_log() { # PRD STORY LEVEL
  __claude_loop_text level "$3"
  __claude_loop_message message
  __claude_loop_send '"log.message"' "$1" "$2"
}

__claude_loop_steps() { # PRD STORY CURRENT TOTAL
  __claude_loop_number current "$3"
  __claude_loop_number total "$4"
  if [[ -n $__cl_text ]]; then __claude_loop_message message; fi
  __claude_loop_send '"progress.updated"' "$1" "$2"
}

__claude_loop_turn() { # PRD N MAX
  __claude_loop_count iteration "$2"
  if [[ -n $3 ]]; then __claude_loop_count max_iterations "$3"; fi
  __claude_loop_send '"iteration.started"' "$1" ''
}

__claude_loop_wait() { # PRD FOR UNTIL
  __claude_loop_text for "$2"
  __claude_loop_message reason
  if [[ -n $3 ]]; then __claude_loop_number until "$3"; fi
  __claude_loop_send '"agent.waiting"' "$1" ''
}

# The arguments as bash quotes them: first the type, then pairs, of which most are simple. __cl_key: €€ before the type,
# "" where __claude_loop_arguments has to tell.
emit_event() { # TYPE [key=value | key:=JSON]...
  {
    \builtin local __cl_data __cl_json __cl_key __cl_prd __cl_story
    __cl_json=$* __cl_data='' __cl_key=€€ __cl_prd='' __cl_story=''
    case ${BASH_COMPAT-}:${__claude_loop_level-}${#__cl_key}:${#__cl_json} in
      (:5[26]:? | :5[26]:?? | :5[26]:???)
        for __cl_json in "${@@Q}"; do
          case $__cl_json in
            (*\\* | *\"* | \$*)
              case $__cl_key:${LC_ALL-} in # see emit_error
                (€*) (( 0 )) ;;
                (*:C) __claude_loop_unquote ;;
                (*: | *:"${__claude_loop_locale-}") \builtin local "LC_ALL=C" && __claude_loop_unquote ;;
                (*) (( 0 )) ;;
              esac || { __cl_key=''; \builtin break; } ;;
            (*) __cl_json=${__cl_json:1:-1} ;;
          esac
          case $__cl_key in (€€) __cl_key=-; \builtin continue ;; esac # the type
          case $__cl_json in
            (prd=*) __cl_prd=${__cl_json:4}; \builtin continue ;;
            (story=*) __cl_story=${__cl_json:6}; \builtin continue ;;
            (*=*) ;;
            (*) __cl_key=''; \builtin break ;;
          esac
          __cl_key=${__cl_json%%=*} __cl_json=${__cl_json:${#__cl_key}+1}
          # shellcheck disable=SC2194 # constant, and the pattern is not
          case \ prd:\ story:\ run\ run:\ session\ session:\ project\ project:\  in # one pattern for all of them
            (*" $__cl_key "*) __cl_key=''; \builtin break ;;
          esac
          case $__cl_key in
            ('' | : | *\\* | *\"*) __cl_key=''; \builtin break ;;
            (*:)
              case $__cl_json in
                (true | false | null) ;;
                ('' | 0?* | *[!0123456789]* | ???????????????????*) __cl_key=''; \builtin break ;;
              esac
              __cl_data+=${__cl_data:+,}\"${__cl_key%:}\":$__cl_json ;;
            (*) __cl_data+=${__cl_data:+,}\"$__cl_key\":\"${__cl_json//\"/\\\"}\" ;;
          esac
        done ;;
      (*) __cl_key='' ;;
    esac
    case $__cl_key:$__cl_prd$__cl_story in
      (:* | €* | *\\* | *\"*) __claude_loop_values __claude_loop_arguments "$@" ;;
      (*)
        __claude_loop_emit "\"$1\"" '' "${EPOCHREALTIME-}" "$__cl_prd" "$__cl_story" ;;
    esac
  } 2>/dev/null || (( 1 ))
}

__claude_loop_arguments() { # TYPE [key=value | key:=JSON]...
  \builtin local __cl_text __cl_key __cl_bare __cl_type __cl_prd __cl_story __cl_run __cl_session __cl_project
  __cl_bare='' __cl_prd='' __cl_story='' __cl_run='' __cl_session='' __cl_project='' __cl_json=${1-}
  __claude_loop_string
  __cl_type=$__cl_json
  if (( $# )); then \builtin shift; fi
  for __cl_text do
    __cl_key=${__cl_text%%=*}
    # Where bash sees characters, %% and # may swap the bytes of a torn one and a backslash; these two do not.
    if [[ $__cl_care == wide ]]; then __cl_key=${__cl_text/=*/}; fi
    case $__cl_key in
      ('' | : | "$__cl_text") __claude_loop_bare ;;
      (prd | prd:) __cl_prd=${__cl_text:${#__cl_key}+1} ;;
      (story | story:) __cl_story=${__cl_text:${#__cl_key}+1} ;;
      (run | run:) __cl_run=${__cl_text:${#__cl_key}+1} ;;
      (session | session:) __cl_session=${__cl_text:${#__cl_key}+1} ;;
      (project | project:) __cl_project=${__cl_text:${#__cl_key}+1} ;;
      (*) __claude_loop_pair ;;
    esac
  done
  # What is no key=value is kept where somebody will see it.
  if [[ -n $__cl_bare ]]; then __cl_data+=",\"_arguments\":[${__cl_bare:1}]"; fi
  case $__cl_run$__cl_session$__cl_project in
    ('') __claude_loop_send "$__cl_type" "$__cl_prd" "$__cl_story" ;;
    (*) __claude_loop_send "$__cl_type" "$__cl_prd" "$__cl_story" "$__cl_run" "$__cl_session" "$__cl_project" ;;
  esac
}

__claude_loop_bare() {
  __cl_json=$__cl_text
  __claude_loop_string
  __cl_bare+=,$__cl_json
}

__claude_loop_pair() { # __cl_text is key=value or key:=JSON; what is no JSON becomes a string
  __cl_text=${__cl_text:${#__cl_key}+1} __cl_json=${__cl_key%:}
  case $__cl_care$__cl_key in
    (wide* | *[[:cntrl:]\\\"]*) __claude_loop_string ;;
    (*) if (( ${#__cl_key} > 256 )); then __claude_loop_string; else __cl_json=\"$__cl_json\"; fi ;;
  esac
  __cl_data+=,$__cl_json:
  case $__cl_key in
    (*:)
      if [[ $__cl_text == [123456789]* && $__cl_text != *[!0123456789]* && ${#__cl_text} -le 18 ]]; then
        __cl_data+=$__cl_text
        \builtin return 0
      elif (( ${#__cl_text} <= 16384 )) && __claude_loop_is_json; then
        __cl_data+=${__cl_text//[$'\t\n\r']/ } # only between tokens: is_json refuses them inside strings
        \builtin return 0
      fi ;;
  esac
  __cl_json=$__cl_text
  __claude_loop_string
  __cl_data+=$__cl_json
}

__claude_loop_owner() { # whose run this is: $$, in a subshell too; start time and boot tell it from a later process
  \builtin local __cl_line __cl_ticks __cl_i
  if ! __claude_loop_line "/proc/$$/stat" 0; then \builtin return 0; fi
  __cl_ticks=${__cl_line##*) } # the name in parentheses may hold anything; field 3 follows it
  for (( __cl_i = 3; __cl_i < 22; __cl_i++ )); do __cl_ticks=${__cl_ticks#* }; done
  __cl_ticks=${__cl_ticks%% *}
  __claude_loop_line /proc/sys/kernel/random/boot_id 0 || (( 1 ))
  case ${__cl_ticks:-x}${__cl_line:-x} in (*[!0123456789abcdef-]*) \builtin return 0 ;; esac
  __cl_data+=",\"owner\":{\"pid\":$$,\"start_ticks\":$__cl_ticks,\"boot_id\":\"$__cl_line\"}"
}

# ---- JSON ----------------------------------------------------------------------------------------------------

__claude_loop_text() { # KEY VALUE: one more string in the data
  __cl_json=$2
  __claude_loop_string
  __cl_data+=",\"$1\":$__cl_json"
}

__claude_loop_count() { # KEY VALUE: an integer where it is one, else a string, which the daemon marks
  \builtin local __cl_n='' __cl_sign=''
  if [[ $2 == 0 || $2 == [123456789]* && $2 != *[!0123456789]* && ${#2} -le 18 ]]; then
    __cl_data+=",\"$1\":$2"
    \builtin return 0
  fi
  __cl_n=${2#"${2%%[! ]*}"} # `wc -l` pads with spaces on macOS
  __cl_n=${__cl_n%"${__cl_n##*[! ]}"}
  if [[ $__cl_n == -* ]]; then __cl_n=${__cl_n#-} __cl_sign=-; fi
  if [[ -z $__cl_n || $__cl_n == *[!0123456789]* || ${#__cl_n} -gt 18 ]]; then
    __claude_loop_text "$1" "$2"
  else
    __cl_n=${__cl_n#"${__cl_n%%[!0]*}"} # 08 is 8: JSON has no leading zeros
    __cl_data+=",\"$1\":$__cl_sign${__cl_n:-0}"
  fi
}

__claude_loop_number() { # KEY VALUE: likewise, with a fraction
  if __claude_loop_is_number "$2"; then __cl_data+=",\"$1\":$2"; else __claude_loop_count "$1" "$2"; fi
}

__claude_loop_string() { # __cl_json becomes a JSON string
  if [[ $__cl_care != none ]]; then
    # 16 KiB a value; once a record has 64 KiB, 256 bytes of each must do.
    if (( (__cl_room -= ${#__cl_json}) < 0 || ${#__cl_json} > 16384 )); then __claude_loop_cut; fi
    case $__cl_care$__cl_json in (wide* | *[[:cntrl:]\\\"]*) __claude_loop_escape ;; esac
  fi
  __cl_json=\"$__cl_json\"
}

__claude_loop_cut() {
  \builtin local __cl_limit="$(( __cl_room + ${#__cl_json} ))" __cl_end=0 __cl_code=0 # what was left for this value
  __cl_limit=$(( __cl_limit > 16384 ? 16384 : __cl_limit > 256 ? __cl_limit : 256 ))
  if [[ $__cl_care == wide ]]; then __cl_limit=$(( __cl_limit / 4 )); fi # they are characters
  if (( ${#__cl_json} <= __cl_limit )); then \builtin return 0; fi
  for (( __cl_end = __cl_limit; __cl_end > __cl_limit - 4; __cl_end-- )); do
    \builtin printf -v __cl_code %d "'${__cl_json:__cl_end:1}"
    # 10xxxxxx continues a UTF-8 character: cut in front of its first byte. Four in a row are no UTF-8.
    if (( (__cl_code & 0xC0) != 0x80 )); then \builtin break; fi
  done
  if (( __cl_end == __cl_limit - 4 )); then __cl_end=$__cl_limit; fi
  __cl_room=$(( __cl_room + ${#__cl_json} - __cl_end ))
  __cl_json="${__cl_json:0:__cl_end}…[$(( ${#__cl_json} - __cl_end )) bytes cut]"
}

__claude_loop_escape() { # with `case`, since bash is slow to find out that there is nothing to replace
  if (( ${#__cl_json} > 2048 )) || [[ $__cl_care == wide ]]; then __claude_loop_escape_slowly; \builtin return 0; fi
  case $__cl_json in (*\\*) __cl_json=${__cl_json//\\/\\\\} ;; esac
  __cl_json=${__cl_json//\"/\\\"}
  case $__cl_json in (*$'\n'*) __cl_json=${__cl_json//$'\n'/\\n} ;; esac
  case $__cl_json in (*$'\t'*) __cl_json=${__cl_json//$'\t'/\\t} ;; esac
  case $__cl_json in (*$'\r'*) __cl_json=${__cl_json//$'\r'/\\r} ;; esac
  case $__cl_json in (*$'\033'*) __cl_json=${__cl_json//$'\033'/\\u001b} ;; esac # colours
  case $__cl_care$__cl_json in # in the C locale a range means what it says, and is quicker than a class
    (bytes*[$'\1'-$'\037']* | rare*[[:cntrl:]]*) __claude_loop_escape_rare ;;
  esac
}

__claude_loop_escape_slowly() {
  \builtin local __cl_rest="$__cl_json" __cl_done='' __cl_elsewhere="$__cl_care" __cl_care=rare
  if [[ $__cl_elsewhere == wide && $__cl_json == *[![:ascii:]]* ]] && __claude_loop_escape_elsewhere; then
    \builtin return 0
  fi
  while [[ -n $__cl_rest ]]; do # in chunks: ${s//…} is quadratic
    __cl_json=${__cl_rest:0:2048} __cl_rest=${__cl_rest:2048}
    __claude_loop_escape
    __cl_done+=$__cl_json
  done
  __cl_json=$__cl_done
}

# With a readonly LC_ALL this shell cannot see bytes, and patterns overlook what follows the first byte of a torn
# character: a quote, say. A new bash can; where none is to be had, letters of other alphabets are given up.
__claude_loop_escape_elsewhere() {
  __cl_forking=x${BASH_SUBSHELL-}
  # shellcheck disable=SC2016 # expanded by the new bash
  __cl_done=$(\builtin command -p env BASH_ENV= LC_ALL=C "$BASH" -c \
    'source "$1" && __cl_json=$2 __cl_care=rare && __claude_loop_escape && printf %s "$__cl_json"' \
    bash "$__claude_loop_source" "$__cl_json") || __cl_done=''
  __cl_forking=''
  if [[ -z $__cl_done ]]; then __cl_rest=${__cl_rest//[![:ascii:]]/?}; \builtin return 1; fi
  __cl_json=$__cl_done
}

__claude_loop_escape_rare() {
  \builtin local __cl_byte='' __cl_code=''
  for __cl_byte in $'\1' $'\2' $'\3' $'\4' $'\5' $'\6' $'\7' $'\b' $'\v' $'\f' $'\016' $'\017' $'\020' $'\021' $'\022' \
    $'\023' $'\024' $'\025' $'\026' $'\027' $'\030' $'\031' $'\032' $'\034' $'\035' $'\036' $'\037'; do
    if [[ $__cl_json == *"$__cl_byte"* ]]; then
      \builtin printf -v __cl_code '\\u%04x' "'$__cl_byte"
      __cl_json=${__cl_json//"$__cl_byte"/$__cl_code}
    fi
  done
}

__claude_loop_is_number() { # TEXT: a JSON number that a double holds
  \builtin local __cl_tail __cl_digits
  __cl_tail=${1#-}
  __cl_digits=${__cl_tail%%[!0123456789]*}
  __cl_tail=${__cl_tail#"$__cl_digits"}
  case $__cl_digits in ('' | 0?*) \builtin return 1 ;; esac
  if [[ $__cl_tail == .[0123456789]* ]]; then
    __cl_tail=${__cl_tail#.}
    __cl_tail=${__cl_tail#"${__cl_tail%%[!0123456789]*}"}
  fi
  case $__cl_tail in
    ('' | [eE][0123456789] | [eE][0123456789][0123456789]) (( ${#1} <= 64 )) ;;
    ([eE][-+][0123456789] | [eE][-+][0123456789][0123456789]) (( ${#1} <= 64 )) ;;
    (*) \builtin return 1 ;;
  esac
}

# Is __cl_text JSON? A parser by reduction: `${s//…}` runs in C, a loop over characters does not. A string becomes ",
# everything that is a value becomes #, `"key": value` becomes !, and #,# becomes #, until nothing changes.
# What it refuses is sent as a string: it may refuse too much (extreme numbers and depths), never too little.
__claude_loop_is_json() {
  \builtin local __cl_t __cl_whole __cl_i
  __cl_t=${__cl_text#"${__cl_text%%[! $'\t\n\r']*}"}
  __cl_t=${__cl_t%"${__cl_t##*[! $'\t\n\r']}"}
  case $__cl_t in
    (true | false | null) \builtin return 0 ;;
    (\"* | \[*\] | \{*\}) if [[ $__cl_care == wide && $__cl_t == *[![:ascii:]]* ]]; then \builtin return 1; fi ;;
    (*) __claude_loop_is_number "$__cl_t"; \builtin return "$?" ;;
  esac
  __claude_loop_reduce_escapes && __claude_loop_reduce_strings && __claude_loop_reduce_scalars || \builtin return 1
  case $__cl_t in # the outer pair goes first: else `[1],[2]` would reduce to #
    (\#) \builtin return 0 ;;
    (\[*\]) __cl_whole='#' ;;
    (\{*\}) __cl_whole='!' ;;
    (*) \builtin return 1 ;;
  esac
  __cl_t=${__cl_t#?}
  __cl_t=${__cl_t%?}
  for (( __cl_i = 0; __cl_i < 200; __cl_i++ )); do
    if [[ -z $__cl_t || $__cl_t == "$__cl_whole" ]]; then \builtin return 0; fi
    __cl_t=${__cl_t//;#/!}
    __cl_t=${__cl_t//!,!/!}
    __cl_t=${__cl_t//#,#/#}
    __cl_t=${__cl_t//\{!\}/#}
    __cl_t=${__cl_t//\{\}/#}
    __cl_t=${__cl_t//\[#\]/#}
    __cl_t=${__cl_t//\[\]/#}
  done
  \builtin return 1
}

__claude_loop_reduce_escapes() { # \n, \", \u00e9 and so on become ~, which JSON has only inside strings
  \builtin local __cl_x
  __cl_t=${__cl_t//$'\177'/~} # a control character for [[:cntrl:]], a plain one for JSON
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

__claude_loop_reduce_strings() { # every "string" becomes one quote; control characters inside and odd quotes fail
  \builtin local __cl_rest __cl_part __cl_piece __cl_inside
  __cl_rest=$__cl_t __cl_t='' __cl_inside=0
  while [[ -n $__cl_rest ]]; do
    __cl_part=${__cl_rest:0:256} __cl_rest=${__cl_rest:256}
    while (( 1 )); do
      __cl_piece=${__cl_part%%\"*}
      if (( ! __cl_inside )); then
        __cl_t+=$__cl_piece
      elif [[ $__cl_piece == *[[:cntrl:]]* ]]; then
        \builtin return 1
      fi
      if [[ $__cl_part != *\"* ]]; then \builtin break; fi
      __cl_part=${__cl_part#*\"} __cl_inside=$(( ! __cl_inside ))
      if (( __cl_inside )); then __cl_t+=\"; fi
    done
  done
  (( ! __cl_inside ))
}

__claude_loop_reduce_scalars() { # numbers, true, false and null become #, and so do strings that are no keys
  \builtin local __cl_d __cl_many __cl_foreign
  __cl_t=" ${__cl_t//[$'\t\n\r']/ }" __cl_d='[0123456789]'
  __cl_many=$__cl_d$__cl_d$__cl_d$__cl_d$__cl_d$__cl_d$__cl_d$__cl_d
  __cl_many=$__cl_many$__cl_many$__cl_many$__cl_many$__cl_many$__cl_many$__cl_many$__cl_many
  __cl_foreign='*[!][{}:,"0123456789.eE+truefalsn -]*'
  # shellcheck disable=SC2053 # a pattern
  if [[ $__cl_t == $__cl_foreign ]]; then \builtin return 1; fi
  __cl_t=${__cl_t//true/#}
  __cl_t=${__cl_t//false/#}
  __cl_t=${__cl_t//null/#}
  case $__cl_t in # leading zeros; exponents and lengths that no double holds
    (*[!0123456789.eE+-]0$__cl_d* | *[!eE]-0$__cl_d*) \builtin return 1 ;;
    (*[eE]$__cl_d$__cl_d$__cl_d* | *[eE][-+]$__cl_d$__cl_d$__cl_d* | *$__cl_many*) \builtin return 1 ;;
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

# ---- The record and its file ---------------------------------------------------------------------------------

__claude_loop_send() { # TYPE PRD STORY [RUN SESSION PROJECT]: with what is in __cl_data after its first comma
  __cl_data=${__cl_data:1}
  case $# in
    (3) __claude_loop_emit "$1" '' "${EPOCHREALTIME-}" "$2" "$3" ;;
    (*) __claude_loop_slowly "$1" '' "$2" "$3" "$4" "$5" "$6" ;;
  esac
}

# TYPE DATA TIME [PRD STORY], with DATA "" for what is in __cl_data.
__claude_loop_emit() {
  # What decides how and where a record is written and on its project, run and session, and the second: mostly all of it
  # is as in the call before. No variable of its own, because that costs more than it saves. What is remembered does not
  # change while this runs: a trap that emits meanwhile leaves it alone, see __claude_loop_remember. [!A] does not match
  # a with nocasematch.
  case a$-${BASHPID-}.${BASH_SUBSHELL-}^${CLAUDE_LOOP_DISABLE-}^${CLAUDE_LOOP_HOME:-^${XDG_STATE_HOME-}^${HOME-}}^\
${PWD-}^${CLAUDE_LOOP_PROJECT-}^${CLAUDE_LOOP_RUN-}^${CLAUDE_LOOP_SESSION-}^$3 in
    ([!A]"${__claude_loop_known:--}"*) ;;
    (*) __claude_loop_slowly "$1" "$2" "${4-}" "${5-}"; \builtin return 0 ;;
  esac
  # Ids that need no escaping are remembered too; " is none. That further ^ blur where one ends does no harm.
  case ${4:-${CLAUDE_LOOP_PRD:+\"}}^${5:-${CLAUDE_LOOP_STORY:+\"}} in
    ("$__claude_loop_prd^$__claude_loop_story" | "$__claude_loop_prd^" | "^$__claude_loop_story" | ^) ;;
    (*)
      __claude_loop_other_ids "$1" "$2" "$3" "${4:-${CLAUDE_LOOP_PRD-}}" "${5:-${CLAUDE_LOOP_STORY-}}"
      \builtin return 0 ;;
  esac
  [[ -e $__claude_loop_file ]] || __claude_loop_begin || \builtin return 0
  # All is one argument, because a newline in the format would be a write of its own; up to 4096 bytes are one write,
  # stdio makes two or three of more.
  \builtin printf %s "$__claude_loop_start$(( ++__claude_loop_n ))"'","type":'"$1$__claude_loop_head\
${4:+,\"prd_id\":\"$4\"}${5:+,\"story_id\":\"$5\"}$__claude_loop_time${3:11}"'Z","data":{'"${2:-$__cl_data}"$'}}\n' \
    >>"$__claude_loop_file" || __claude_loop_lost=1
}

__claude_loop_begin() { __claude_loop_create "$__claude_loop_file" || { __claude_loop_lost=1; \builtin return 1; }; }

__claude_loop_other_ids() { # the same, with ids from the context or new ones
  case $4^$5 in
    ("$__claude_loop_prd^$__claude_loop_story") __claude_loop_emit "$@" ;;
    (*) __claude_loop_slowly "$1" "$2" "$4" "$5" ;;
  esac
}

# TYPE DATA PRD STORY [RUN SESSION PROJECT]: where not all is as it was in the call before.
__claude_loop_slowly() {
  \builtin local __cl_key __cl_known __cl_record __cl_tail __cl_prd __cl_story __cl_time __cl_now __cl_own
  # What is remembered is read in one command, since a trap may change it.
  __cl_known=${__claude_loop_known-} __cl_record=${__claude_loop_head-} __cl_tail=${__claude_loop_tail-} \
    __cl_own=${__claude_loop_own-} __cl_prd=${3:-${CLAUDE_LOOP_PRD-}} __cl_story=${4:-${CLAUDE_LOOP_STORY-}} \
    __cl_key=$-${BASHPID-}.${BASH_SUBSHELL-}^${CLAUDE_LOOP_DISABLE-}^${CLAUDE_LOOP_HOME:-^${XDG_STATE_HOME-}^${HOME-}}^\
${PWD-}^${CLAUDE_LOOP_PROJECT-}^${CLAUDE_LOOP_RUN-}^${CLAUDE_LOOP_SESSION-}^
  # shellcheck disable=SC2195 # A matches with nocasematch
  case a${__cl_odd-}$#$__cl_key in
    (A*) __claude_loop_oddly __claude_loop_slowly "$@"; \builtin return 0 ;;
    ("a4${__cl_known%^*}^") ;; # another second, or other ids
    (*) __claude_loop_look_around "$@" || \builtin return 0 ;;
  esac
  case $__cl_prd in ('' | "${__claude_loop_prd-}") ;; (*) __claude_loop_look_at prd "$__cl_prd" ;; esac
  case $__cl_story in ('' | "${__claude_loop_story-}") ;; (*) __claude_loop_look_at story "$__cl_story" ;; esac
  # The second in front of the microseconds becomes a date, mostly that of the call before. The time is taken after the
  # name of a new file.
  __cl_time=${EPOCHREALTIME-}
  __cl_now=${__cl_time/${__claude_loop_second-}/${__claude_loop_date-}}
  case $__cl_now in (*T*) ;; (*) __claude_loop_make_date ;; esac
  case ${__cl_odd-}$#:${#__cl_time} in (4:17) __claude_loop_remember ;; esac
  # The newline in front ends whatever a full disk or a crash tore off before. Quotes only where they have to be: inside
  # of them bash takes twice as long.
  __cl_known=$__claude_loop_file \
    __cl_record=$__claude_loop_start$(( ++__claude_loop_n ))'","type":'$1$__cl_record\
${__cl_prd:+',"prd_id":"'$__cl_prd\"}${__cl_story:+',"story_id":"'$__cl_story\"}$__cl_tail$__cl_now\
'Z","data":{'${2:-$__cl_data}$'}}\n'
  [[ -e $__cl_known ]] || __claude_loop_create "$__cl_known" || __cl_known=''
  case ${__claude_loop_level-} in
    ([45]) \builtin printf %s "$__cl_record" >>"$__cl_known" || __claude_loop_lost=1 ;;
    (*) __claude_loop_old_append "$__cl_known" ;;
  esac
}

# What __claude_loop_emit goes by. Not for a call that a trap of the caller's makes within another: that one has
# perhaps compared what is remembered and is about to use it.
__claude_loop_remember() {
  case ${FUNCNAME[*]-} in (*__claude_loop_emit*__claude_loop_emit*) \builtin return 0 ;; esac
  # All of it, and in one command: with `set -a` and `exec` another bash inherits what was set while that was on.
  # shellcheck disable=SC2269 # for that reason
  __claude_loop_known=$__cl_key${__cl_time:0:10} __claude_loop_head=$__cl_record __claude_loop_tail=$__cl_tail \
    __claude_loop_time=$__cl_tail${__cl_now%??????} __claude_loop_start=$__claude_loop_start \
    __claude_loop_file=$__claude_loop_file __claude_loop_prd=${__claude_loop_prd-} __claude_loop_story=${__claude_loop_story-}
  # Such a trap may have begun another file before.
  if [[ ${__claude_loop_own-} != "$__cl_own" ]]; then __claude_loop_known=''; fi
}

__claude_loop_look_at() { # prd|story ID
  if [[ $2 != *[[:cntrl:]\\\"]* && $2 != *[![:ascii:]]* && ${#2} -le 512 ]]; then
    \builtin printf -v "__claude_loop_$1" %s "$2"
  else
    __claude_loop_in_bytes __claude_loop_escape_ids "$1"
  fi
}

# What __claude_loop_slowly was called with, where more than second and ids is new. Status 1: leave it at that.
__claude_loop_look_around() {
  case ${__cl_forking-}${__cl_odd:-${CLAUDE_LOOP_DISABLE:-0}${BASHPID:+${__claude_loop_level-}}:$-} in
    ([!0]* | 0[!5]* | 05[!:]* | 05:*k*) __claude_loop_oddly __claude_loop_slowly "$@"; \builtin return 1 ;;
  esac
  case $__cl_key in
    (*[![:ascii:]]*) __claude_loop_in_bytes __claude_loop_prepare "$@" ;;
    (*) __claude_loop_prepare "$@" ;;
  esac
}

# FUNCTION [ARGUMENT]...: call it with what it needs to put together values out of the arguments and __cl_text. Where
# these have to be escaped that is in the C locale, where a character is a byte. A readonly LC_ALL stays: then
# __cl_care is "wide".
__claude_loop_values() {
  # shellcheck disable=SC2195 # A matches with nocasematch
  case a${__cl_forking-}:${__cl_odd-=$-:${BASH_COMPAT-}${CLAUDE_LOOP_DISABLE-}} in
    (A* | a[!:]* | a:=*k* | a:=*:?*) __claude_loop_oddly __claude_loop_values "$@"; \builtin return 0 ;;
  esac
  \builtin local __cl_data __cl_json __cl_care __cl_room __cl_locale
  __cl_data='' __cl_json=$* __cl_care=rare __cl_room=65536 __cl_locale=''
  # Short and without anything to escape? Bash quotes with $'…' what it cannot print, faster than any pattern is matched.
  case ${__claude_loop_level-}:${#__cl_json}:${__cl_text+${#__cl_text}} in
    (*[0123456789][0123456789][0123456789]*) ;;
    (5*)
      __cl_json+=${__cl_text-}
      case ${__cl_json@Q} in
        (\$* | *\"*) ;;
        (*\\*) case $__cl_json in (*\\*) ;; (*) __cl_care=none ;; esac ;; # or it has a single quote
        (*) __cl_care=none ;;
      esac ;;
  esac
  __cl_json=€€ # two characters in UTF-8, six where they are bytes
  case $__cl_care${#__cl_json} in
    (none[26]) "$@"; \builtin return 0 ;;
    (*6) ;;
    (*)
      __cl_locale=${LC_ALL-}
      if \builtin local "LC_ALL=C"; then __cl_care=bytes; else __cl_locale='' __cl_care=wide; fi ;;
  esac
  "$@"
  if [[ -n $__cl_locale && $__cl_locale != "${__claude_loop_locale-}" ]]; then __claude_loop_check_locale; fi
}

__claude_loop_in_bytes() { # FUNCTION [ARGUMENT]...: likewise, but in the C locale in any case
  \builtin local __cl_text
  __cl_text=$'\1'
  __claude_loop_values "$@"
}

# FUNCTION [ARGUMENT]...: call it, but without nocasematch, which blurs every comparison; without `set -k`, under which
# `local` does not see `x=1`; and for bash 5.2 that plays 4.2 or older without its special &, which takes the
# backslashes out of ${s//…/\\}. For bash before 5 find out process and time.
__claude_loop_oddly() {
  # In a subshell of ours there may be a DEBUG or ERR trap that emits: it would start the next subshell, and so on.
  if [[ ${CLAUDE_LOOP_DISABLE:-0} != 0 || ${__cl_forking:-x${BASH_SUBSHELL-}} != "x${BASH_SUBSHELL-}" ]]; then
    \builtin return 0
  fi
  \builtin local __cl_odd __cl_old_pid __cl_old_now __cl_forking __cl_case __cl_keyword __cl_ampersand
  __cl_odd=05: __cl_old_pid='' __cl_old_now='' __cl_forking='' __cl_case='' __cl_keyword='' __cl_ampersand=''
  # shellcheck disable=SC2050 # not constant with nocasematch
  if [[ a == A ]]; then \builtin shopt -u nocasematch; __cl_case=1; fi
  if [[ $- == *k* ]]; then \builtin set +k; __cl_keyword=1; fi
  if \builtin shopt -q patsub_replacement; then \builtin shopt -u patsub_replacement; __cl_ampersand=1; fi
  if [[ ${__claude_loop_level-} != [45] || -z ${BASHPID-} ]]; then __claude_loop_old_pid; fi
  if [[ ${__claude_loop_level-} != 5 ]]; then __claude_loop_old_now; fi
  __cl_odd=05:$__cl_old_pid
  "$@"
  if [[ -n $__cl_ampersand ]]; then \builtin shopt -s patsub_replacement; fi
  if [[ -n $__cl_keyword ]]; then \builtin set -k; fi
  if [[ -n $__cl_case ]]; then \builtin shopt -s nocasematch; fi
}

__claude_loop_check_locale() { # bash sets LC_ALL back itself; for an LC_ALL that does not exist here it would stay in C
  LC_ALL=$__cl_locale __cl_json=€
  if (( ${#__cl_json} == 3 )); then
    LC_ALL='' # what was in force was LANG
  else
    __claude_loop_locale=$__cl_locale
  fi
}

__claude_loop_prepare() { # what __claude_loop_slowly was called with
  \builtin local __cl_run="${5:-${CLAUDE_LOOP_RUN-}}" __cl_session="${6:-${CLAUDE_LOOP_SESSION-}}" \
    __cl_project="${7:-${CLAUDE_LOOP_PROJECT-}}" __cl_pid="${__cl_old_pid:-${BASHPID-}}" __cl_all='' \
    __cl_home="${CLAUDE_LOOP_HOME:-${XDG_STATE_HOME:-${HOME-~}/.local/state}/claude-loop}"
  if [[ -z $__cl_project ]]; then # one command for both: a trap may change directory and emit
    __cl_all=${__claude_loop_directory-} __cl_project=${__claude_loop_project-}
    if [[ $__cl_all != "${PWD-}" ]]; then __claude_loop_find_project; fi
  fi
  __cl_all=$__cl_project$__cl_run$__cl_session
  if [[ ${#__cl_all} -gt 1024 || $__cl_all == *[[:cntrl:]\\\"]* || $__cl_all == *[![:ascii:]]* ]]; then
    __claude_loop_in_bytes __claude_loop_escape_ids project run session
  fi
  __cl_record=${__cl_project:+",\"project\":\"$__cl_project\""}
  __cl_tail=${__cl_run:+",\"run_id\":\"$__cl_run\""}${__cl_session:+",\"session_id\":\"$__cl_session\""}
  __cl_tail+=',"source":"bash","timestamp":"'
  if [[ $__cl_home != /* ]]; then __claude_loop_relative_home; fi
  __cl_own=$__cl_pid.${BASH_SUBSHELL-}.$__cl_home
  if [[ $__cl_own != "${__claude_loop_own-}" ]]; then __claude_loop_new_file; fi
  # With further ^ two keys could be the same text: this one is not to be found again.
  case ${CLAUDE_LOOP_DISABLE-}${CLAUDE_LOOP_HOME-}${XDG_STATE_HOME-}${HOME-}${PWD-}${CLAUDE_LOOP_PROJECT-}\
${CLAUDE_LOOP_RUN-}${CLAUDE_LOOP_SESSION-} in (*^*) __cl_key=^ ;; esac
}

__claude_loop_relative_home() { # XDG says to ignore relative paths; CLAUDE_LOOP_HOME may be one
  if [[ -n ${CLAUDE_LOOP_HOME-} ]]; then
    __cl_home=${PWD-}/$CLAUDE_LOOP_HOME
  else
    __cl_home=${HOME-~}/.local/state/claude-loop
  fi
}

__claude_loop_find_project() { # the nearest directory upwards that has a .git, else the current one
  __cl_project=${PWD-}
  while [[ -n $__cl_project && ! -e $__cl_project/.git ]]; do __cl_project=${__cl_project%/*}; done
  __cl_project=${__cl_project:-${PWD-}}
  __cl_project=${__cl_project##*/}
  __claude_loop_directory=${PWD-} __claude_loop_project=$__cl_project
}

__claude_loop_escape_ids() { # NAME...: they stand between quotes already
  \builtin local __cl_id=''
  for __cl_id do
    __cl_id=__cl_$__cl_id
    __cl_json=${!__cl_id}
    # As in __claude_loop_string, but not by taking its quotes off again: where a torn character stands in front of one,
    # ${s%?} of bash 5.2 in UTF-8 reads memory that is not the value's.
    if (( (__cl_room -= ${#__cl_json}) < 0 || ${#__cl_json} > 16384 )); then __claude_loop_cut; fi
    if [[ $__cl_json == *[[:cntrl:]\\\"]* || $__cl_care == wide ]]; then __claude_loop_escape; fi
    \builtin printf -v "$__cl_id" %s "$__cl_json"
  done
}

__claude_loop_new_file() { # one for every process: a child inherits all of this and must not write as its parent
  \builtin local __cl_random='' __cl_now="${__cl_old_now:-${EPOCHREALTIME-}}"
  if [[ ${__claude_loop_level-} == 5 ]]; then __cl_random=${SRANDOM-}; fi
  if [[ -z $__cl_random ]]; then __claude_loop_old_random; fi
  if (( ${#__cl_now} != 17 )); then __claude_loop_missing_now; fi
  __cl_all=${__cl_now:0:10}${__cl_now: -6}-$__cl_pid-$__cl_random
  # The C library writes the first newline of all by itself, since it has no buffer yet. Let that not be a record's.
  \builtin printf '\n' >/dev/null
  # One command: a trap that emits between two of these would number two records alike.
  __claude_loop_own=$__cl_own __claude_loop_n=0 __claude_loop_lost='' __claude_loop_known='' \
    __claude_loop_stem=$__cl_all __claude_loop_start=$'\n{"id":"'$__cl_all. \
    __claude_loop_file=$__cl_home/spool/$__cl_all.jsonl
}

__claude_loop_make_date() { # __cl_now becomes a date in UTC: `printf %(…)T` would need a TZ, and bash 4.2
  __cl_now=${__cl_old_now:-$__cl_now}
  if (( ${#__cl_now} != 17 )); then __claude_loop_missing_now; fi
  \builtin local __cl_s="$(( 10#${__cl_now:0:10} ))" __cl_day="${__claude_loop_day-}" __cl_z=0 __cl_e=0 __cl_y=0 \
    __cl_d=0 __cl_m=0 __cl_second="${__cl_now:0:10}"
  if [[ $__cl_day != "$(( __cl_s / 86400 ))="* ]]; then
    # Days to a date, counting years from March, so that the leap day is a year's last.
    (( __cl_z = __cl_s / 86400 + 719468, __cl_e = __cl_z % 146097,
       __cl_y = (__cl_e - __cl_e / 1460 + __cl_e / 36524 - __cl_e / 146096) / 365,
       __cl_d = __cl_e - (365 * __cl_y + __cl_y / 4 - __cl_y / 100), __cl_m = (5 * __cl_d + 2) / 153,
       __cl_d = __cl_d - (153 * __cl_m + 2) / 5 + 1, __cl_y += 400 * (__cl_z / 146097),
       __cl_m = __cl_m < 10 ? __cl_m + 3 : __cl_m - 9, __cl_y += __cl_m <= 2, 1 ))
    \builtin printf -v __cl_day '%d=%04d-%02d-%02d' "$(( __cl_s / 86400 ))" "$__cl_y" "$__cl_m" "$__cl_d"
    __claude_loop_day=$__cl_day
  fi
  \builtin printf -v __cl_day '%sT%02d:%02d:%02d.' "${__cl_day#*=}" "$(( __cl_s / 3600 % 24 ))" \
    "$(( __cl_s / 60 % 60 ))" "$(( __cl_s % 60 ))"
  # For the next call: a pattern, whose ? is the point or comma, and what to put there. Under `set -k` nothing was set,
  # and where EPOCHREALTIME is not to be used it must not be known.
  if [[ -n ${__cl_old_now-} ]]; then __cl_second=''; fi
  if [[ $__cl_second ]]; then __claude_loop_second=$__cl_second\? __claude_loop_date=$__cl_day; fi
  __cl_now=$__cl_day${__cl_now: -6}
}

__claude_loop_create() { # FILE: empty and 0600, in a directory 0700
  \builtin local __cl_umask __cl_above __cl_made __cl_directory __cl_forking
  __cl_made='' __cl_forking='' __cl_directory=${1%/*}
  if [[ ! -d $__cl_directory ]]; then
    if [[ $__cl_directory == "${__claude_loop_refused-}" ]]; then \builtin return 1; fi # one process, not one each time
    __cl_above=$__cl_directory
    while [[ -n $__cl_above && ! -e $__cl_above ]]; do __cl_above=${__cl_above%/*}; done
    # sudo may keep HOME: a state directory made by root would lock out the daemon of its owner.
    if [[ ${EUID-} == 0 && ! -O ${__cl_above:-/} ]] || ! __claude_loop_make_directory "$__cl_directory"; then
      __claude_loop_refused=$__cl_directory
      \builtin return 1
    fi
  fi
  if [[ ! -O $__cl_directory ]]; then \builtin return 1; fi # its owner could put a link where our file was
  __claude_loop_umask
  if [[ -n $__cl_umask ]]; then \builtin umask 077; fi
  # Not whether the file is there: the daemon may have removed it already, which is its answer.
  if \builtin printf '' >>"$1"; then __cl_made=1; fi
  if [[ -n $__cl_umask ]]; then \builtin umask "$__cl_umask"; fi
  [[ -n $__cl_made ]]
}

__claude_loop_make_directory() {
  __cl_forking=x${BASH_SUBSHELL-}
  ( \builtin umask 077 && \builtin command -p mkdir -p -- "$1" ) || (( 1 ))
  __cl_forking=''
  [[ -d $1 ]]
}

__claude_loop_umask() { # `umask` can only print, and catching that takes a process; Linux has it in a file
  \builtin local __cl_line
  if __claude_loop_line /proc/self/status 1 && [[ $__cl_line == Umask:*[01234567] ]]; then
    __cl_umask=${__cl_line##*[!01234567]}
  else
    __cl_forking=x${BASH_SUBSHELL-}
    __cl_umask=$(\builtin umask) || __cl_umask=''
    __cl_forking=''
  fi
}

# ---- Older bash, other systems -------------------------------------------------------------------------------

__claude_loop_old_pid() {
  \builtin local __cl_line=''
  __cl_forking=x${BASH_SUBSHELL-}
  if __claude_loop_line /proc/self/stat 0; then
    __cl_old_pid=${__cl_line%% *}
  else
    # shellcheck disable=SC2016 # expanded by the new sh, whose parent is this process
    __cl_old_pid=$(\builtin exec /bin/sh -c 'echo $PPID') || __cl_old_pid=$$
  fi
  __cl_forking=''
}

__claude_loop_old_now() { # a process: GNU date, else Perl, else whole seconds
  __cl_forking=x${BASH_SUBSHELL-}
  __cl_old_now=''
  if [[ ${__claude_loop_level-} != 2 ]]; then __cl_old_now=$(\builtin command -p date +%s.%N) || __cl_old_now=''; fi
  __cl_old_now=${__cl_old_now:0:17}
  if [[ ${#__cl_old_now} != 17 || $__cl_old_now == *[!0123456789.]* ]]; then
    __cl_old_now=$(\builtin command -p perl -MTime::HiRes=time -e 'printf "%.6f", time') || __cl_old_now=''
    if (( ${#__cl_old_now} != 17 )); then __cl_old_now=$(\builtin command -p date +%s).000000 || __cl_old_now=''; fi
    if (( ${#__cl_old_now} != 17 )); then __cl_old_now=0000000000.000000; fi
  fi
  __cl_forking=''
}

__claude_loop_missing_now() { # a script has unset EPOCHREALTIME
  \builtin local __cl_old_now='' __cl_forking=''
  __claude_loop_old_now
  __cl_now=$__cl_old_now
}

__claude_loop_old_append() { # FILE
  # Bash 3.2 keeps what it could not write and prints it later, on the script's stdout. A subshell takes it along.
  __cl_forking=x${BASH_SUBSHELL-}
  ( \builtin printf %s "$__cl_record" ) >>"$1" || __claude_loop_lost=1
  __cl_forking=''
}

__claude_loop_old_random() { # not $RANDOM: a script that has seeded it counts on its sequence
  \builtin local __cl_bytes='' __cl_i=0 __cl_code=0
  __cl_random=0
  \builtin read -r -n 8 -d '' __cl_bytes </dev/urandom || (( 1 ))
  for (( __cl_i = 0; __cl_i < ${#__cl_bytes}; __cl_i++ )); do
    \builtin printf -v __cl_code %d "'${__cl_bytes:__cl_i:1}"
    __cl_random=$(( (__cl_random * 257 + __cl_code) & 0xFFFFFFFF ))
  done
}

__claude_loop_line() { # FILE SKIP: __cl_line becomes one line of it
  __cl_line=''
  if (( ${__claude_loop_level:-3} <= 2 )) || [[ ! -r $1 ]]; then \builtin return 1; fi
  if (( ${__claude_loop_level:-3} >= 4 )); then
    \builtin mapfile -t -s "$2" -n 1 __cl_line <"$1"
  else
    { if (( $2 )); then \builtin read -r __cl_line; fi; \builtin read -r __cl_line; } <"$1"
  fi
  [[ -n ${__cl_line-} ]]
}

# ---- emit_flush ----------------------------------------------------------------------------------------------

__claude_loop_ask() { # SECONDS: leave a marker for the daemon to remove, and set how long to wait for that
  \builtin local __cl_home __cl_old_pid __cl_whole __cl_part
  case ${1:-5} in
    (*[!0123456789.,]* | *[.,]*[.,]* | [.,]) __cl_ms=5000 ;;
    (*)
      __cl_whole=${1:-5}
      __cl_part=${__cl_whole#"${__cl_whole%%[.,]*}"} __cl_whole=00000000${__cl_whole%%[.,]*}
      __cl_part=${__cl_part#[.,]}000
      __cl_ms=$(( 10#${__cl_whole: -8} * 1000 + 10#${__cl_part:0:3} )) ;;
  esac
  __cl_old_pid=''
  if [[ ${__claude_loop_level-} != [45] || -z ${BASHPID-} ]]; then __claude_loop_old_pid; fi
  __cl_home=${__claude_loop_own#"${__cl_old_pid:-${BASHPID-}}.${BASH_SUBSHELL-}."}
  __cl_marker=$__cl_home/flush/$__claude_loop_stem.$__claude_loop_n
  if [[ $__cl_home == "$__claude_loop_own" || $__claude_loop_n$__claude_loop_lost == 0 ]]; then
    __cl_outcome=committed # a subshell that has emitted nothing itself
    \builtin return 0
  fi
  if [[ ${__claude_loop_level-} == 5 ]]; then
    { __claude_loop_try_pipe; } 57<<<'' 58<>/dev/fd/57 || (( 1 ))
  fi
  if [[ -n $__claude_loop_lost ]] || ! __claude_loop_create "$__cl_marker"; then __cl_outcome=lost; fi
}

# A pipe that stays empty and open is a clock that takes no process: bash makes one for a here-string, and opened again
# for reading and writing it never ends. That is tried first, because it does not work everywhere (not Linux, before
# bash 5.1); then `sleep` has to do.
__claude_loop_try_pipe() {
  \builtin local __cl_line
  \builtin read -r -u 57 __cl_line || \builtin return 0
  \builtin read -r -t 0.001 -u 58 __cl_line && \builtin return 0
  if (( $? > 128 )); then __cl_clock=pipe; fi # it timed out: nothing came, not even an end
}

__claude_loop_await() { # not in silence: a trap of the caller's that fires meanwhile may have something to say
  \builtin local __cl_line
  if [[ $__cl_clock == pipe ]]; then
    { \builtin read -r -u 57 __cl_line && __claude_loop_watch; } 57<<<'' 58<>/dev/fd/57 || (( 1 ))
  else
    __claude_loop_watch
  fi
}

__claude_loop_watch() { # look at the marker again and again
  \builtin local __cl_waited __cl_step __cl_seconds
  __cl_waited=0 __cl_step=1
  while [[ -e $__cl_marker ]]; do
    if (( __cl_waited >= __cl_ms )); then
      __cl_outcome=late
      __claude_loop_aside rm -f -- "$__cl_marker" || (( 1 ))
      \builtin return 0
    fi
    if (( __cl_step > __cl_ms - __cl_waited )); then __cl_step=$(( __cl_ms - __cl_waited )); fi
    \builtin printf -v __cl_seconds '%d.%03d' "$(( __cl_step / 1000 ))" "$(( __cl_step % 1000 ))"
    if [[ $__cl_clock == pipe ]]; then
      \builtin read -r -t "$__cl_seconds" -u 58 __cl_line || (( 1 ))
    else
      __claude_loop_aside sleep "$__cl_seconds" || __claude_loop_aside sleep 1 || (( 1 ))
    fi
    __cl_waited=$(( __cl_waited + __cl_step )) __cl_step=$(( __cl_step < 32 ? __cl_step * 2 : 32 ))
  done
  __cl_outcome=committed
}

__claude_loop_aside() { # COMMAND ARG...: in silence, but without a redirection in which a trap could be caught
  \builtin local __cl_forking
  __cl_forking=x${BASH_SUBSHELL-}
  ( \builtin command -p "$@" >/dev/null 2>&1 )
}

# ---- Once, when sourced --------------------------------------------------------------------------------------

case ${CLAUDE_LOOP_EMIT_COMPAT-} in # what may be used: the bash that runs, or an older one pretended for tests
  (1) __claude_loop_level=3 ;;
  (2) __claude_loop_level=2 ;; # and no /proc, no GNU date
  (*) __claude_loop_level=$(( BASH_VERSINFO[0] < 5 ? BASH_VERSINFO[0] : 5 )) ;;
esac
\builtin unset -v __claude_loop_known
__claude_loop_executed='' __claude_loop_source=${BASH_SOURCE[0]-}
if [[ $__claude_loop_source != /* ]]; then __claude_loop_source=${PWD-}/$__claude_loop_source; fi

if [[ ${BASH_SOURCE[0]-} == "$0" ]]; then # a command, for other shells: emit_progress.sh emit_error PRD STORY TEXT
  __claude_loop_executed=1
  case ${1-} in
    (emit_*) if declare -F "$1" >/dev/null; then "$@"; exit "$?"; fi ;;
  esac
  printf '%s\n' 'Usage: source emit_progress.sh, or: emit_progress.sh emit_FUNCTION [ARGUMENT]...' >&2
  exit 2
fi
