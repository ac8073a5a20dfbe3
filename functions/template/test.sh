#!/bin/sh
# The function as it is served, against a database that is thrown away: `make test`. The verbs are those of testing.sh.
cd "$(dirname "$0")" || exit
# shellcheck source=../testing.sh
. "${TESTING:-../testing.sh}"
serve --init-sql schema.sql --function-dir "${OUT:-.}" function.yaml

check 'a name is greeted and counted'
call POST /fn/default/hello/Ada
expect_status 200
expect_body '{"greeting":"hello","name":"Ada","visits":1}'
call POST /fn/default/hello/Ada
expect_json '$.visits' 2
expect_row 'SELECT name, count FROM visits' 'Ada|2'

check 'visits at the same time all count'
call_parallel 8 POST /fn/default/hello/Grace
expect_statuses 200:8
expect_row "SELECT count FROM visits WHERE name = 'Grace'" 8

check 'a name that the table refuses leaves nothing'
call POST "/fn/default/hello/$(printf '%0101d' 0)"
expect_problem 422 check_violation
expect_row 'SELECT count(*) FROM visits' 2
