-- What the parts of `events` call, beside schema cicada: a table as the events' own for comparison, and workers that note how
-- long each claim took.
SELECT cicada.create_queue('work'), cicada.create_queue('backlog'), cicada.create_queue('later');

CREATE TABLE public.plain (LIKE cicada.event_1 INCLUDING ALL);
CREATE SEQUENCE public.plain_id;

CREATE TABLE public.claims (part text, us float8, events integer);

CREATE PROCEDURE public.work(part text, queue_id integer, most integer) LANGUAGE plpgsql
AS $body$
DECLARE
    slots integer[];
    ids bigint[];
    epochs integer[];
    start timestamptz := clock_timestamp();
    took interval;
BEGIN
    SELECT array_agg(slot), array_agg(id), array_agg(epoch) INTO slots, ids, epochs
    FROM cicada.event_claim(queue_id, most, '1 minute', true);
    took := clock_timestamp() - start;
    COMMIT;
    IF ids IS NOT NULL THEN
        PERFORM cicada.event_settle_many(slots, ids, epochs);
    END IF;
    INSERT INTO public.claims VALUES (part, extract(epoch FROM took) * 1e6, coalesce(cardinality(ids), 0));
    COMMIT;
END
$body$;
