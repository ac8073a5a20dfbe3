-- What producers write, what handlers do, and the difference.
CREATE SCHEMA chaos;

-- One row for each event, of the transaction that sent it.
CREATE TABLE chaos.sent (number bigint PRIMARY KEY, function text NOT NULL, key text NOT NULL, n bigint NOT NULL, account integer NOT NULL,
                         amount integer NOT NULL);
CREATE SEQUENCE chaos.number;
-- The last one of each key: counted in the transaction that sends.
CREATE TABLE chaos.key (function text, key text, n bigint NOT NULL, PRIMARY KEY (function, key));
-- What the handlers do. No index says that a number is there once: twice shall be seen.
CREATE TABLE chaos.done (function text NOT NULL, number bigint NOT NULL, serial bigserial);
CREATE TABLE chaos.account (id integer PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO chaos.account SELECT i, 0 FROM generate_series(1, 1000) i;

-- Events with a write of one's own each, in the caller's transaction.
CREATE FUNCTION chaos.send(function text, key text, events integer) RETURNS void LANGUAGE plpgsql
AS $body$
DECLARE
    event chaos.sent;
BEGIN
    FOR i IN 1 .. events LOOP
        INSERT INTO chaos.key AS k VALUES (send.function, send.key, 1)
        ON CONFLICT ON CONSTRAINT key_pkey DO UPDATE SET n = k.n + 1 RETURNING k.n INTO event.n;
        event.number := nextval('chaos.number');
        event.function := send.function;
        event.key := send.key;
        event.account := 1 + floor(random() * 1000);
        event.amount := 1 + floor(random() * 1000);
        INSERT INTO chaos.sent SELECT (event).*;
        PERFORM cicada.enqueue(send.function, to_jsonb(event), jsonb_build_object('key', send.key));
    END LOOP;
END
$body$;

-- Transactions of 1 to 5 events of one key of this producer's; one in five is rolled back.
CREATE PROCEDURE chaos.produce(producer integer, functions text[], transactions integer) LANGUAGE plpgsql
AS $body$
BEGIN
    FOR i IN 1 .. transactions LOOP
        PERFORM chaos.send(functions[1 + floor(random() * cardinality(functions))], producer || '-' || floor(random() * 20),
                           (1 + floor(random() * 5))::integer);
        IF random() < 0.2 THEN
            ROLLBACK;
        ELSE
            COMMIT;
        END IF;
    END LOOP;
END
$body$;

-- All that may never be, by name; 0 each.
CREATE VIEW chaos.wrong AS
SELECT (SELECT count(*) FROM chaos.sent WHERE key <> 'poison' AND number NOT IN (SELECT number FROM chaos.done)) AS lost,
       (SELECT coalesce(sum(times - 1), 0) FROM (SELECT count(*) AS times FROM chaos.done GROUP BY number) AS d) AS doubled,
       (SELECT count(*) FROM chaos.done WHERE number NOT IN (SELECT number FROM chaos.sent)) AS "of no event",
       (SELECT count(*) FROM chaos.account a FULL JOIN
               (SELECT account AS id, sum(amount) AS balance FROM chaos.sent WHERE key <> 'poison' GROUP BY account) AS s USING (id)
        WHERE a.balance <> coalesce(s.balance, 0) OR a.id IS NULL) AS "wrong sums",
       (SELECT count(*) FROM (SELECT n < lag(n) OVER (PARTITION BY function, key ORDER BY serial) AS back
                              FROM chaos.done JOIN chaos.sent USING (function, number) WHERE function LIKE 'ordered%') AS o
        WHERE back) AS "out of order";
