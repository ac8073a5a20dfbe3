#!/bin/sh
# The shop's functions over HTTP, and what they leave in the tables: `make test` here.
cd "$(dirname "$0")" || exit
# shellcheck source=../testing.sh
. ../testing.sh
serve --namespace shop --init-sql schema.sql,seed.sql --function-dir "${OUT:-.}" manifests

# Everything that a function of the shop may change, in one line.
tables="SELECT (SELECT string_agg(id || ':' || stock, ' ' ORDER BY id) FROM products),
               (SELECT string_agg(id || ':' || status, ' ' ORDER BY id) FROM orders)"

# refused STATUS CODE FUNCTION [BODY [HEADER...]]: it answers so, and the tables are as they were.
refused() {
    refused_status=$1 refused_code=$2 refused_function=$3 before=$(sql "$tables")
    shift 3
    call POST "/fn/shop/$refused_function" "$@"
    expect_problem "$refused_status" "$refused_code"
    expect_row "$tables" "$before"
}

# new_order PRODUCT QUANTITY: sets $order to the new order's id.
new_order() {
    call POST /fn/shop/create-order "{\"user_id\":1,\"product_id\":$1,\"quantity\":$2}"
    expect_status 201
    order=$(json '$.id')
}

# ---- create-order ----

check 'create-order: an order takes its stock and its price'
call POST /fn/shop/create-order '{"user_id":1,"product_id":1,"quantity":2}'
expect_status 201
expect_body '{"id":1,"user_id":1,"product_id":1,"quantity":2,"total":49.98,"status":"pending"}'
expect_row 'SELECT user_id, product_id, quantity, total, status, settled_at IS NULL FROM orders' '1|1|2|49.98|pending|t'
expect_row 'SELECT stock FROM products WHERE id = 1' 99998

check 'create-order: what it refuses leaves nothing'
refused 400 malformed_json create-order '{"user_id":1,'
refused 400 malformed_json create-order '{"user_id":1,"user_id":2,"product_id":1,"quantity":1}'
refused 400 not_an_object create-order '[1,1,1]'
refused 400 not_an_object create-order
refused 422 missing_field create-order '{"user_id":1,"product_id":1}'
refused 422 invalid_field create-order '{"user_id":1,"product_id":1,"quantity":0}'
refused 422 invalid_field create-order '{"user_id":1,"product_id":1,"quantity":1.5}'
refused 422 invalid_field create-order '{"user_id":1,"product_id":1,"quantity":"1"}'
refused 404 unknown_product create-order '{"user_id":1,"product_id":77,"quantity":1}'
refused 404 unknown_user create-order '{"user_id":77,"product_id":1,"quantity":1}'
refused 409 out_of_stock create-order '{"user_id":1,"product_id":3,"quantity":4}'
expect_json '$.detail' 'product 3 has 3 left'

check 'create-order: the last pieces are sold once, to those who ask at the same time'
call_parallel 12 POST /fn/shop/create-order '{"user_id":2,"product_id":3,"quantity":1}'
expect_statuses '201:3 409:9'
expect_row 'SELECT stock FROM products WHERE id = 3' 0
expect_row 'SELECT count(*), sum(quantity) FROM orders WHERE product_id = 3' '3|3'

check 'create-order: only POST'
call GET /fn/shop/create-order
expect_status 405
expect_header Allow POST

# ---- settle-payment ----

check 'settle-payment: paid'
new_order 1 1
call POST /fn/shop/settle-payment "{\"order_id\":$order,\"payment_status\":\"paid\"}"
expect_status 200
expect_json '$.status' paid
expect_row "SELECT status, settled_at IS NOT NULL FROM orders WHERE id = $order" 'paid|t'

check 'settle-payment: a repeated message changes nothing'
refused 409 already_settled settle-payment "{\"order_id\":$order,\"payment_status\":\"paid\"}"
refused 409 already_settled settle-payment "{\"order_id\":$order,\"payment_status\":\"failed\"}"
expect_json '$.detail' "order $order is paid"

check 'settle-payment: failed gives the stock back'
stock=$(sql 'SELECT stock FROM products WHERE id = 2')
new_order 2 5
call POST /fn/shop/settle-payment "{\"order_id\":$order,\"payment_status\":\"failed\"}"
expect_status 200
expect_row "SELECT status FROM orders WHERE id = $order" failed
expect_row 'SELECT stock FROM products WHERE id = 2' "$stock"

check 'settle-payment: one of those that come at the same time settles'
stock=$(sql 'SELECT stock FROM products WHERE id = 2')
new_order 2 5
call_parallel 8 POST /fn/shop/settle-payment "{\"order_id\":$order,\"payment_status\":\"failed\"}"
expect_statuses '200:1 409:7'
expect_row 'SELECT stock FROM products WHERE id = 2' "$stock"

check 'settle-payment: what it refuses leaves nothing'
new_order 1 1
refused 400 malformed_json settle-payment '{"order_id":'
refused 400 not_an_object settle-payment '"paid"'
refused 404 unknown_order settle-payment '{"order_id":999999,"payment_status":"paid"}'
refused 422 missing_field settle-payment '{"payment_status":"paid"}'
refused 422 invalid_field settle-payment '{"order_id":-1,"payment_status":"paid"}'
refused 422 invalid_field settle-payment "{\"order_id\":$order,\"payment_status\":\"perhaps\"}"
refused 422 invalid_field settle-payment "{\"order_id\":$order}"

check 'settle-payment: an event of the queue pays as a request does'
new_order 1 1
expect_row "SELECT cicada.enqueue('payments', jsonb_build_object('order_id', $order, 'payment_status', 'paid')) > 0" t
await_row "SELECT status, settled_at IS NOT NULL FROM orders WHERE id = $order" 'paid|t'

# Of all queues but their dead letters.
waiting='SELECT coalesce(sum(due + delayed + leased + blocked), 0) FROM cicada.queue_stats()'

check 'settle-payment: announced twice, it is done; what contradicts is a dead letter'
expect_row "SELECT cicada.enqueue('payments', jsonb_build_object('order_id', $order, 'payment_status', 'paid')) > 0" t
expect_row "SELECT cicada.enqueue('payments', jsonb_build_object('order_id', $order, 'payment_status', 'failed')) > 0" t
await_row "$waiting" 0
expect_row "SELECT payload ->> 'payment_status', reason FROM cicada.dead_letters('payments')" 'failed|rejected'
expect_row "SELECT status FROM orders WHERE id = $order" paid

check 'settle-payment: an event of a transaction that failed is none'
new_order 1 1
sql "BEGIN; SELECT cicada.enqueue('payments', jsonb_build_object('order_id', $order, 'payment_status', 'paid')); ROLLBACK" >/dev/null
await_row "$waiting" 0
expect_row "SELECT status FROM orders WHERE id = $order" pending

# ---- ship-order, tell-customer ----

check 'ship-order: an order that becomes paid is shipped, and its customer told, once'
new_order 2 1
call POST /fn/shop/settle-payment "{\"order_id\":$order,\"payment_status\":\"paid\"}"
expect_status 200
await_row "SELECT count(*) FROM shipments WHERE order_id = $order" 1
await_row "SELECT recipient, body FROM mails WHERE order_id = $order" "ada@example.com|Dear Ada, your order $order is on its way."

check 'ship-order: whoever writes that it is paid'
new_order 2 1
sql "UPDATE orders SET status = 'paid', settled_at = now() WHERE id = $order"
await_row "SELECT count(*) FROM mails WHERE order_id = $order" 1

check 'ship-order: what is not paid is not shipped'
new_order 2 1
call POST /fn/shop/settle-payment "{\"order_id\":$order,\"payment_status\":\"failed\"}"
await_row "$waiting" 0
expect_row "SELECT count(*) FROM shipments WHERE order_id = $order" 0

# ---- daily-sales ----

check 'daily-sales: the days before, each once'
sql "INSERT INTO products (id, name, price_cents, stock) VALUES (80, 'Tray', 1000, 5);
     INSERT INTO orders (user_id, product_id, quantity, total, status, created_at, settled_at) VALUES
         (1, 80, 1, 10, 'paid', '2026-03-28 12:00+01', '2026-03-28 23:59:59+01'),
         (1, 80, 2, 20, 'paid', '2026-03-28 12:00+01', '2026-03-29 00:00+01'),
         (1, 80, 3, 30, 'paid', '2026-03-28 12:00+01', '2026-03-29 23:59+02'),
         (1, 80, 4, 40, 'failed', '2026-03-28 12:00+01', '2026-03-29 12:00+02'),
         (1, 80, 5, 50, 'paid', '2026-03-28 12:00+01', '2026-03-30 00:00+02')"
call POST /fn/shop/daily-sales '{"tick":"2026-03-30T00:00:00Z"}'
expect_status 204
expect_row 'SELECT day, orders, pieces, total FROM daily_sales WHERE product_id = 80 ORDER BY day' '2026-03-28|1|1|10.00
2026-03-29|2|5|50.00'
call POST /fn/shop/daily-sales '{"tick":"2026-03-30T00:00:00Z"}'
expect_status 204
call POST /fn/shop/daily-sales '{"tick":"2026-03-31T00:00:00Z"}'
expect_row 'SELECT day, orders, pieces, total FROM daily_sales WHERE product_id = 80 ORDER BY day' '2026-03-28|1|1|10.00
2026-03-29|2|5|50.00
2026-03-30|1|5|50.00'

# ---- get-order ----

check 'get-order: the row as PostgreSQL writes it'
new_order 2 3
call GET "/fn/shop/get-order/$order"
expect_status 200
expect_row "SELECT row_to_json(o) FROM (SELECT id, user_id, product_id, quantity, total, status, created_at, settled_at
            FROM orders WHERE id = $order) o" "$BODY"

check 'get-order: no such order, no such id'
call GET /fn/shop/get-order/999999
expect_problem 404 no_row
call GET /fn/shop/get-order/abc
expect_problem 400 invalid_parameter
call GET /fn/shop/get-order/
expect_problem 404 unknown_path

# ---- list-orders ----

check 'list-orders: each filter may be left out'
sql "INSERT INTO users (id, email, name) VALUES (90, 'list@example.com', 'List');
     INSERT INTO orders (id, user_id, product_id, quantity, total, status, created_at, settled_at) VALUES
         (9001, 90, 1, 1, 24.99, 'paid', now() - interval '40 days', now()),
         (9002, 90, 1, 1, 24.99, 'paid', now() - interval '3 days', now()),
         (9003, 90, 2, 1, 6.50, 'pending', now(), NULL)"
call GET '/fn/shop/list-orders?user_id=90'
expect_status 200
expect_json '$[*].id' '9003 9002'
call GET '/fn/shop/list-orders?user_id=90&status=paid'
expect_json '$[*].id' 9002
call GET '/fn/shop/list-orders?user_id=90&within=100%20days'
expect_json '$[*].id' '9003 9002 9001'
call GET '/fn/shop/list-orders?user_id=90&within=1%20hour&status=paid'
expect_body '[]'
call GET '/fn/shop/list-orders?limit=1'
expect_json '$[*].id' 9003
call GET "/fn/shop/list-orders?limit=1000"
expect_json '$.size()' "$(sql "SELECT count(*) FROM orders WHERE created_at > now() - interval '30 days'")"

check 'list-orders: a value stays a value'
call GET "/fn/shop/list-orders?status=x'%20OR%20'1'='1"
expect_body '[]'
call GET '/fn/shop/list-orders?user_id=me'
expect_problem 400 invalid_parameter
call GET '/fn/shop/list-orders?within=soon'
expect_problem 422 data_exception

check 'list-orders: CSV'
call GET '/fn/shop/list-orders?user_id=90&status=pending' '' 'Accept: text/csv'
expect_status 200
expect_equal "$(printf 'id,user_id,product_id,quantity,total,status,created_at\r\n9003,90,2,1,6.50,pending')" \
    "${BODY%,*}" 'all but the time'

# ---- stock-report ----

check 'stock-report: what failed was not ordered'
sql "INSERT INTO products (id, name, price_cents, stock) VALUES (90, 'Lamp, \"blue\"', 100, -0)" # the report's first line
sql "INSERT INTO orders (user_id, product_id, quantity, total, status, settled_at) VALUES
         (1, 90, 4, 4, 'pending', NULL), (1, 90, 2, 2, 'paid', now()), (1, 90, 1, 1, 'failed', now())"
call GET /fn/shop/stock-report
expect_status 200
expect_json '$[*] ? (@.id == 90).ordered' 6
expect_json '$.size()' "$(sql 'SELECT count(*) FROM products')"
expect_json '$[0].stock' 0

check 'stock-report: CSV quotes what must be quoted'
call GET /fn/shop/stock-report '' 'Accept: text/csv'
expect_header Content-Type 'text/csv; charset=utf-8; header=present'
expect_equal 'id,name,stock,ordered' "$(printf '%s\n' "$BODY" | head -n 1 | tr -d '\r')" 'the header line'
expect_equal '90,"Lamp, ""blue""",0,6' "$(printf '%s\n' "$BODY" | grep '^90,' | tr -d '\r')" 'the line of the lamp'

# ---- cancel-order ----

check 'cancel-order: the stock goes back, once'
stock=$(sql 'SELECT stock FROM products WHERE id = 1')
new_order 1 7
call POST /fn/shop/cancel-order "{\"order_id\":$order}"
expect_status 200
expect_json '$.status' failed
expect_row 'SELECT stock FROM products WHERE id = 1' "$stock"
refused 404 no_row cancel-order "{\"order_id\":$order}"

check 'cancel-order: of those that come at the same time one cancels'
new_order 1 7
call_parallel 8 POST /fn/shop/cancel-order "{\"order_id\":$order}"
expect_statuses '200:1 404:7'
expect_row 'SELECT stock FROM products WHERE id = 1' "$stock"

check 'cancel-order: what it refuses leaves nothing'
refused 404 no_row cancel-order '{"order_id":999999}'
refused 400 missing_parameter cancel-order '{}'
refused 400 invalid_parameter cancel-order '{"order_id":"first"}'
refused 400 malformed_json cancel-order '{"order_id":1'

# ---- checkout ----

both='{"user_id":1,"items":[{"product_id":2,"quantity":6},{"product_id":1,"quantity":1}]}'

check 'checkout: an order for each item'
stock=$(sql 'SELECT stock FROM products WHERE id IN (1, 2) ORDER BY id')
call POST /fn/shop/checkout "$both" 'Idempotency-Key: "tea"'
expect_status 201
expect_json '$[*].product_id' '1 2'
expect_json '$[*].total' '24.99 39.00'
expect_header Idempotency-Replayed ''
expect_row 'SELECT stock + CASE id WHEN 1 THEN 1 ELSE 6 END FROM products WHERE id IN (1, 2) ORDER BY id' "$stock"

check 'checkout: a repeat gets the first answer and orders nothing'
first=$BODY before=$(sql "$tables")
call POST /fn/shop/checkout "$both" 'Idempotency-Key: "tea"'
expect_status 201
expect_body "$first"
expect_header Idempotency-Replayed true
expect_row "$tables" "$before"

check 'checkout: eight at the same time order once'
call_parallel 8 POST /fn/shop/checkout '{"user_id":2,"items":[{"product_id":1,"quantity":11}]}' 'Idempotency-Key: "rush"'
case $STATUSES in
201:8 | 201:[1-7]' '409:[1-7]) ;; # the first answer; 409: the first is still at work
*) fail "statuses: $STATUSES" ;;
esac
expect_row 'SELECT count(*) FROM orders WHERE quantity = 11' 1

check 'checkout: a key is for one request'
refused 400 idempotency_key_required checkout "$both"
refused 422 idempotency_key_reused checkout '{"user_id":2,"items":[]}' 'Idempotency-Key: "tea"'

check 'checkout: all or nothing, and a refusal is not kept'
half='{"user_id":1,"items":[{"product_id":1,"quantity":1},{"product_id":3,"quantity":1}]}'
refused 409 raised_status checkout "$half" 'Idempotency-Key: "print"'
expect_json '$.detail' 'too little is left of Limited print'
sql 'UPDATE products SET stock = 1 WHERE id = 3'
call POST /fn/shop/checkout "$half" 'Idempotency-Key: "print"'
expect_status 201

check 'checkout: what it refuses leaves nothing'
key='Idempotency-Key: "wrong"'
refused 404 raised_status checkout '{"user_id":77,"items":[{"product_id":1,"quantity":1}]}' "$key"
refused 404 raised_status checkout '{"user_id":1,"items":[{"product_id":1,"quantity":1},{"product_id":77,"quantity":1}]}' "$key"
refused 422 raised_status checkout '{"user_id":1,"items":[]}' "$key"
refused 422 raised_status checkout '{"user_id":1,"items":null}' "$key"
refused 422 raised_status checkout '{"user_id":1,"items":[{"product_id":1,"quantity":0}]}' "$key"
refused 422 raised_status checkout '{"user_id":1,"items":[{"product_id":1}]}' "$key"
refused 422 data_exception checkout '{"user_id":1,"items":{"product_id":1}}' "$key"
refused 422 data_exception checkout '{"user_id":1,"items":[{"product_id":"first","quantity":1}]}' "$key"
refused 400 missing_parameter checkout '{"user_id":1}' "$key"

check 'checkout: the same products the other way round do not block each other'
for i in 1 2 3 4; do
    start POST /fn/shop/checkout '{"user_id":1,"items":[{"product_id":1,"quantity":1},{"product_id":2,"quantity":1}]}' \
        "Idempotency-Key: \"there $i\""
    start POST /fn/shop/checkout '{"user_id":1,"items":[{"product_id":2,"quantity":1},{"product_id":1,"quantity":1}]}' \
        "Idempotency-Key: \"back $i\""
done
join
expect_statuses 201:8

# ---- after all ----

check 'no stock below zero, and each piece is in stock or in an order'
expect_row 'SELECT count(*) FROM products WHERE stock < 0' 0
expect_row "SELECT p.id, p.stock + sum(o.quantity) FROM products p JOIN orders o ON o.product_id = p.id
            WHERE p.id IN (1, 2) AND o.status <> 'failed' AND o.id NOT BETWEEN 9001 AND 9003 GROUP BY p.id ORDER BY p.id" \
    "1|100000
2|100000"
