-- What jobs leave behind, and when.
CREATE SCHEMA bench;
CREATE TABLE bench.effect (number bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE bench.entry (number bigint NOT NULL, at double precision NOT NULL); -- Unix time at the handler's entry
