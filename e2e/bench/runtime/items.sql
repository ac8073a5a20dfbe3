-- What the SELECT by key reads: 100,000 rows.
CREATE SCHEMA bench;
CREATE TABLE bench.items (
    id          integer PRIMARY KEY,
    name        text NOT NULL,
    price_cents integer NOT NULL,
    stock       integer NOT NULL
);
INSERT INTO bench.items
SELECT n, 'item number ' || n, n % 10000, n % 100 FROM generate_series(1, 100000) AS n;
VACUUM ANALYZE bench.items;
