#!/bin/sh
# testing.sh - tests of functions, over HTTP and against a real database that is thrown away. Sourced by a test script in POSIX sh:
#
#     #!/bin/sh
#     cd "$(dirname "$0")" || exit
#     . "${TESTING:-../testing.sh}"
#     serve --namespace shop --init-sql schema.sql,seed.sql manifests
#
#     check 'an order takes its stock'
#     call POST /fn/shop/create-order '{"user_id":1,"product_id":1,"quantity":2}'
#     expect_status 201
#     expect_json '$.total' 49.98
#     expect_row 'SELECT stock FROM products WHERE id = 1' 99998
#
# It ends with "N passed, N failed", and with 0 if none failed. A check fails if one of its expectations does, or a call or statement
# in it; the others go on. functions/README.md lists the verbs. Needs cicada-local and cicada-runtime, curl and psql.
set -u

# serve FLAGS-AND-MANIFESTS...: runs the rest of the script under a cicada-local of its own, which has these arguments, a free port and
# an empty database. With CICADA_URL and DATABASE_URL in the environment it is one that runs already.
serve() {
    if [ -z "${CICADA_URL:-}" ]; then
        testing_run_under_cicada "$@"
    fi
    testing_checks=0 testing_failed=0 testing_name='' testing_number=0 testing_pids=''
    testing_folder='' # a signal may come as soon as there is a folder
    trap testing_end EXIT
    trap 'exit 130' INT TERM
    testing_folder=$(mktemp -d) || exit
    exec 2>&1 # what curl and psql say belongs to the check; cicada-local's standard error is its log
    STATUS='' BODY='' STATUSES='' testing_request='no call'
    touch "$testing_folder/body" "$testing_folder/head" "$testing_folder/failures"
    export PGCLIENTENCODING=UTF8
    testing_psql=psql
    for testing_program in /usr/lib/postgresql/*/bin/psql; do # Debian's psql is a wrapper that takes three times as long
        [ ! -x "$testing_program" ] || testing_psql=$testing_program
    done
}

# check NAME: what follows, up to the next check, is one test.
check() {
    testing_end_check
    testing_name=$1
    testing_checks=$((testing_checks + 1))
}

# call METHOD PATH [BODY [HEADER...]]: sets $STATUS and $BODY. A body is sent as JSON unless a header says otherwise; '' is none.
call() {
    testing_request="$1 $2 ${3:-}"
    STATUS=$(testing_curl "$testing_folder/head" "$testing_folder/body" "$@") || fail "$testing_request: no answer"
    BODY=$(cat "$testing_folder/body")
}

# start METHOD PATH [BODY [HEADER...]]: a call that is not waited for, until join.
start() {
    testing_number=$((testing_number + 1))
    testing_request="$1 $2 ${3:-}"
    testing_curl /dev/null /dev/null "$@" >"$testing_folder/started-$testing_number" &
    testing_pids="$testing_pids $!"
}

# join: waits for the calls that were started; sets $STATUSES, as '200:3 409:9'.
join() {
    for testing_pid in $testing_pids; do
        wait "$testing_pid" || fail "$testing_request: no answer"
    done
    STATUSES=$(sort "$testing_folder"/started-* | uniq -c | awk '{ printf "%s%s:%s", (NR > 1 ? " " : ""), $2, $1 }')
    rm -f "$testing_folder"/started-*
    testing_pids=
}

# call_parallel COUNT METHOD PATH [BODY [HEADER...]]: the same call COUNT times at once; sets $STATUSES.
call_parallel() {
    testing_count=$1
    shift
    while [ "$testing_count" -gt 0 ]; do
        start "$@"
        testing_count=$((testing_count - 1))
    done
    join
}

# sql STATEMENT: prints its rows, columns separated by '|'. A statement that fails fails the check.
sql() {
    "$testing_psql" -XqAt -v ON_ERROR_STOP=1 "$DATABASE_URL" -c "$1" || fail "failed: $1"
}

expect_status() {
    expect_equal "$1" "$STATUS" "$testing_request: status" "$BODY"
}

# expect_problem STATUS CODE: an error as Cicada and functions answer it.
expect_problem() {
    expect_status "$1"
    expect_header Content-Type application/problem+json
    expect_json '$.code' "$2"
}

# expect_json JSONPATH TEXT: what PostgreSQL's jsonpath finds in the answer; several values are separated by spaces.
expect_json() {
    expect_equal "$2" "$(json "$1")" "$testing_request: $1" "$BODY"
}

# json JSONPATH: prints it.
json() {
    # psql's variables, since SQL quotes them; by files, since those have no limit of length.
    printf '%s' "$1" >"$testing_folder/path"
    "$testing_psql" -XqAt -v ON_ERROR_STOP=1 "$DATABASE_URL" <<SQL || fail "$testing_request: no JSON: $BODY"
\\set body \`cat '$testing_folder/body'\`
\\set path \`cat '$testing_folder/path'\`
SELECT string_agg(coalesce(value #>> '{}', 'null'), ' ' ORDER BY place)
FROM jsonb_path_query(:'body'::jsonb, :'path'::jsonpath) WITH ORDINALITY AS found (value, place);
SQL
}

# expect_header NAME TEXT: '' means that there is none.
expect_header() {
    expect_equal "$2" "$(header "$1")" "$testing_request: header $1"
}

# header NAME: prints its value.
header() {
    tr -d '\r' <"$testing_folder/head" |
        awk -v name="$1" 'index(tolower($0), tolower(name) ":") == 1 { sub(/^[^:]*: */, ""); print }'
}

# expect_body TEXT: the whole body, newlines at its end aside.
expect_body() {
    expect_equal "$1" "$BODY" "$testing_request: body"
}

# expect_statuses 'STATUS:COUNT...': of join and call_parallel, in the order of the statuses.
expect_statuses() {
    expect_equal "$1" "$STATUSES" "$testing_request: statuses"
}

# expect_row STATEMENT TEXT: the rows as sql prints them.
expect_row() {
    expect_equal "$2" "$(sql "$1")" "$1"
}

# await_row STATEMENT TEXT: the same, of what an event brings about: at most 30 s later.
await_row() {
    testing_until=$(($(date +%s) + 30))
    while testing_found=$(sql "$1") && [ "$testing_found" != "$2" ] && [ "$(date +%s)" -lt "$testing_until" ]; do
        sleep 0.05
    done
    expect_equal "$2" "$testing_found" "$1"
}

# expect_equal EXPECTED FOUND WHAT [MORE]
expect_equal() {
    [ "$1" = "$2" ] || fail "$3: expected <$1>, found <$2>${4:+ in $4}"
}

# fail TEXT: the check fails, and goes on.
fail() {
    printf '      %s\n' "$1" >>"$testing_folder/failures" # a file, because sql and json run in a subshell
}

# ---- not for test scripts ----

testing_run_under_cicada() {
    if ! command -v cicada-local >/dev/null; then
        echo "$0: no cicada-local in PATH: build it by make, or set BIN to its folder" >&2
        exit 2
    fi
    testing_folder='' testing_local=''
    trap 'rm -rf "$testing_folder"' EXIT
    trap 'if [ -n "$testing_local" ]; then kill "$testing_local" && wait "$testing_local"; fi; exit 130' INT TERM
    testing_folder=$(mktemp -d) || exit
    chmod 711 "$testing_folder" # as root the database runs as another user, who passes through
    unset DATABASE_URL # of the caller: the database is one to throw away
    # In the background: a shell handles no signal while it waits for a program in the foreground.
    # The script's files are within ours: they go even if it is killed.
    CICADA_TEST_SCRIPT=./$(basename "$0") CICADA_TEST_FOLDER=$testing_folder \
        cicada-local --state-dir "$testing_folder/state" --listen 127.0.0.1:0 \
        --exec 'TMPDIR=$CICADA_TEST_FOLDER exec "$CICADA_TEST_SCRIPT"' "$@" 2>"$testing_folder/log" &
    testing_local=$!
    if wait "$testing_local"; then
        exit 0
    fi
    echo "the server's log (without level info):"
    grep -v '"level":"info"' "$testing_folder/log" | tail -n 30
    exit 1
}

# testing_curl HEAD-FILE BODY-FILE METHOD PATH [BODY [HEADER...]]: prints the status.
testing_curl() {
    testing_head=$1 testing_body=$2 testing_method=$3 testing_path=$4 testing_data=${5:-}
    shift "$(($# < 5 ? $# : 5))"
    testing_type='Content-Type: application/json'
    for testing_header in "$@"; do
        shift
        case $testing_header in
        [Cc]ontent-[Tt]ype:*) testing_type=$testing_header ;;
        *) set -- "$@" -H "$testing_header" ;;
        esac
    done
    if [ -n "$testing_data" ]; then
        set -- "$@" -H "$testing_type" --data-raw "$testing_data"
    fi
    : >"$testing_head" # curl leaves what was there if there is no answer
    : >"$testing_body"
    if [ "$testing_method" = HEAD ]; then
        set -- "$@" --head
        testing_body=/dev/null # where curl puts the head once more
    fi
    curl -sS --max-time 60 --globoff -D "$testing_head" -o "$testing_body" -w '%{http_code}' -X "$testing_method" "$@" \
        "$CICADA_URL$testing_path"
}

testing_end_check() {
    [ -n "$testing_name" ] || return 0
    if [ -s "$testing_folder/failures" ]; then
        testing_failed=$((testing_failed + 1))
        printf 'FAIL  %s\n' "$testing_name"
        cat "$testing_folder/failures"
    else
        printf 'ok    %s\n' "$testing_name"
    fi
    testing_name=
    : >"$testing_folder/failures"
}

# A script that ends before its end is a failure too.
testing_end() {
    testing_status=$?
    [ "$testing_status" -eq 0 ] || [ -z "$testing_name" ] || fail "the script ended here, with $testing_status"
    testing_end_check
    rm -rf "$testing_folder"
    echo "$((testing_checks - testing_failed)) passed, $testing_failed failed"
    if [ "$testing_failed" -gt 0 ] || [ "$testing_checks" -eq 0 ] || [ "$testing_status" -ne 0 ]; then
        exit 1
    fi
}
