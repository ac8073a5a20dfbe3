-- cicada.sql - the schema `cicada` in a function's database: what Cicada itself keeps there, beside the function's own tables.
--
-- Needed by functions with http.idempotency. Run it in the function's database, as the role that shall own the schema (the
-- database's owner, say). It takes CREATE on the database; no superuser, no extension. PostgreSQL 14 or newer.
--
--     psql -X -v ON_ERROR_STOP=1 -f cicada.sql "$DATABASE_URL"       or, the same text:       cicada-runtime --migrate
--
-- Then let the functions' roles in, those that are not the owner:
--
--     SELECT cicada.grant_to('shop_app');
--
-- It may be run again at any time, also by many at once: one statement, so one transaction, under an advisory lock; steps
-- that were done are not done again. Roles that were let in may use what later steps add. Only the owner can run it again.
-- To take it away with all it holds: DROP SCHEMA cicada CASCADE;
--
-- For those who extend it: steps are only ever appended, and a step that was released is never changed. The functions that
-- a function's role calls are SECURITY DEFINER with a fixed search_path, and grant_to() knows them by that (and by name the two
-- that do DDL on that role's tables); all others are the owner's. Nobody but the owner reads or writes a table.

DO $cicada$
DECLARE
    -- Each step: the oldest runtime that works with the schema after it, and its SQL. Its place is the schema's version.
    steps CONSTANT text[] := ARRAY[
        ARRAY['0.1.0', $step$

-- One row for each step that was done; the last one counts.
CREATE TABLE cicada.schema_version (
    version      integer PRIMARY KEY,
    min_runtime  text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now(),
    installed_by name NOT NULL DEFAULT current_user
);

CREATE FUNCTION cicada.schema_state(OUT version integer, OUT min_runtime text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT s.version, s.min_runtime FROM cicada.schema_version s ORDER BY s.version DESC LIMIT 1
$body$;

-- Lets a role use what a function needs of the schema. For the owner. DROP OWNED BY takes it back.
CREATE FUNCTION cicada.grant_to(role_name name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    api regprocedure;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA cicada TO %I', role_name);
    FOR api IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'cicada'::regnamespace AND (p.prosecdef OR p.proname IN ('table_install', 'table_drop'))
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', api, role_name);
    END LOOP;
END
$body$;

-- ---- Idempotent HTTP ----

-- The answer to a request with an Idempotency-Key, written by the transaction that did what the request asked for.
CREATE TABLE cicada.idempotency (
    function    text COLLATE "C" NOT NULL, -- namespace/name
    key         text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL,            -- SHA-256 over the request
    expires_at  timestamptz NOT NULL,
    status      integer NOT NULL,          -- 0: the transaction that wrote it is still at work
    headers     bytea NOT NULL,            -- "Name: value" lines, each ended by a line feed
    body        bytea NOT NULL CHECK (octet_length(body) <= 262144),
    PRIMARY KEY (function, key)
);
CREATE INDEX idempotency_expires_at ON cicada.idempotency (expires_at);

-- The first statement of such a request's transaction. Outcomes:
--   busy    another transaction is at work with this key
--   new     nothing is known: go on, and end with idempotency_store()
--   stored  it was answered already: status, and headers and body in hexadecimal
--   reused  the key was used by another request
CREATE FUNCTION cicada.idempotency_begin(function_name text, request_key text, request_fingerprint bytea,
                                         OUT outcome text, OUT answer_status integer,
                                         OUT answer_headers text, OUT answer_body text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    found_row cicada.idempotency%ROWTYPE;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended((function_name || ' ' || request_key) COLLATE "C", 7310293)) THEN
        outcome := 'busy';
        RETURN;
    END IF;
    -- In READ COMMITTED the statements below see all that was committed before the lock was got. In the other levels the
    -- snapshot is older than the lock: there the row is written first, and where another transaction has just committed
    -- one, the server raises 40001, before anything else was done. It also leaves nothing that was read for
    -- SERIALIZABLE to compare: two requests with different keys would fail each other for reading one page of the index.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        INSERT INTO cicada.idempotency AS i
        VALUES (function_name, request_key, request_fingerprint, now() + interval '24 hours', 0, '', '')
        ON CONFLICT ON CONSTRAINT idempotency_pkey
        DO UPDATE SET fingerprint = excluded.fingerprint, expires_at = excluded.expires_at, status = 0, headers = '',
                      body = ''
            WHERE i.expires_at <= now();
        IF FOUND THEN
            outcome := 'new';
            RETURN;
        END IF;
    END IF;
    SELECT * INTO found_row FROM cicada.idempotency i
    WHERE i.function = function_name AND i.key = request_key AND i.expires_at > now();
    IF NOT FOUND THEN
        outcome := 'new';
    ELSIF found_row.fingerprint <> request_fingerprint THEN
        outcome := 'reused';
    ELSE
        outcome := 'stored';
        answer_status := found_row.status;
        answer_headers := encode(found_row.headers, 'hex');
        answer_body := encode(found_row.body, 'hex');
    END IF;
END
$body$;

-- The last statement of the transaction, with COMMIT behind it. It overwrites an expired row and the one that
-- idempotency_begin() wrote in this transaction, and no other.
CREATE FUNCTION cicada.idempotency_store(function_name text, request_key text, request_fingerprint bytea,
                                         answer_status integer, answer_headers bytea, answer_body bytea) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    INSERT INTO cicada.idempotency AS i
    VALUES (function_name, request_key, request_fingerprint, now() + interval '24 hours', answer_status,
            answer_headers, answer_body)
    ON CONFLICT ON CONSTRAINT idempotency_pkey
    DO UPDATE SET fingerprint = excluded.fingerprint, expires_at = excluded.expires_at, status = excluded.status,
                  headers = excluded.headers, body = excluded.body
        WHERE i.expires_at <= now() OR i.status = 0;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the idempotency key was answered by another transaction' USING ERRCODE = 'serialization_failure';
    END IF;
END
$body$;

-- Removes at most so many expired rows, those that nobody else has in hand; how many it were.
CREATE FUNCTION cicada.idempotency_purge(most integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    WITH expired AS MATERIALIZED (
        SELECT i.function, i.key FROM cicada.idempotency i WHERE i.expires_at <= now()
        ORDER BY i.expires_at LIMIT most FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM cicada.idempotency i USING expired e WHERE i.function = e.function AND i.key = e.key RETURNING 1
    )
    SELECT count(*)::integer FROM removed
$body$;

        $step$],

        ARRAY['0.1.0', $step$

-- ---- Events ----
--
-- An event is a row in one of five tables of one shape. event_1 to event_4 are slots: all writers write to one of them, the
-- sequence event_slot says which, and event_maintain() makes another one the current, lets what is left in the old one move to
-- event_0, and truncates it. So dead rows go away also while an old transaction keeps VACUUM from removing them. event_0 holds
-- what lasts: long delayed events and those left over. Writers name one of these tables and never the view over them all: a
-- writer's transaction may stay open for long, and what it has locked can't be truncated.
--
-- Functions that are not SECURITY DEFINER are parts of those that are: they run under the search_path of their caller, which
-- saves the cost of setting it again.
--
-- One index (queue, lane, due_at) serves all: lane says what the event waits for, due_at when that is over.
--   -10 .. 10   its turn: minus the priority, so that a higher one goes first
--   125         done; an ordered queue's claim has still to let the next event of its key go
--   126         parked: in an ordered queue, behind an unfinished event of its key
--   127         leased until due_at; if that passes, its process died with it, and it is handed out alone

CREATE SEQUENCE cicada.event_id;
CREATE SEQUENCE cicada.event_slot MINVALUE 1 MAXVALUE 4;
SELECT pg_catalog.setval('cicada.event_slot', 1);
CREATE SEQUENCE cicada.slot_warned; -- when slot_warn() last did, by clock_ms()

CREATE TABLE cicada.queue (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text COLLATE "C" NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$'),
    wake       regclass, -- a sequence; its value: until when its consumer sleeps, in milliseconds since 1970; -1: closed
    ordered    boolean NOT NULL DEFAULT false,
    unpark     boolean NOT NULL DEFAULT false, -- claims have to let parked events go that are left from another order
    namespace  text,     -- of the consumer; NULL: nobody consumes it
    function   text,
    trigger    text,
    since      timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cicada.event_0 (
    id          bigint PRIMARY KEY,
    due_at      timestamptz NOT NULL,
    time        timestamptz NOT NULL, -- start of the transaction that wrote it
    started_at  timestamptz,          -- its first claim
    queue       integer NOT NULL,
    epoch       integer NOT NULL,     -- raised by each claim: who has an older one has lost the event
    attempt     integer NOT NULL,
    lane        smallint NOT NULL,
    priority    smallint NOT NULL,
    depth       smallint NOT NULL,
    ordered     boolean NOT NULL,     -- claimed from an ordered queue: leaves a row in lane 125 behind
    alone       boolean NOT NULL,     -- its lease ran out: to be handed out alone
    key         text COLLATE "C",
    source      text,                 -- NULL: /cicada/<namespace>/<queue>
    type        text,                 -- NULL: cicada.dev.message
    subject     text,                 -- NULL: the key
    traceparent text,
    headers     text,
    last_error  text,
    payload     text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX event_0_due ON cicada.event_0 (queue, lane, due_at);
CREATE INDEX event_0_key ON cicada.event_0 (queue, key, id) WHERE key IS NOT NULL;

DO $slots$
BEGIN
    FOR slot IN 1 .. 4 LOOP
        EXECUTE format($slot$
            CREATE TABLE cicada.event_%1$s (LIKE cicada.event_0)
                WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
                      autovacuum_vacuum_cost_delay = 0);
            ALTER TABLE cicada.event_%1$s ADD PRIMARY KEY (id);
            CREATE INDEX event_%1$s_due ON cicada.event_%1$s (queue, lane, due_at);
            CREATE INDEX event_%1$s_key ON cicada.event_%1$s (queue, key, id) WHERE key IS NOT NULL;
        $slot$, slot);
    END LOOP;
END
$slots$;

-- For reading. A transaction that has read it keeps all slots from being truncated until it ends.
CREATE VIEW cicada.event AS
    SELECT 0::smallint AS slot, e.* FROM cicada.event_0 e
    UNION ALL SELECT 1::smallint, e.* FROM cicada.event_1 e
    UNION ALL SELECT 2::smallint, e.* FROM cicada.event_2 e
    UNION ALL SELECT 3::smallint, e.* FROM cicada.event_3 e
    UNION ALL SELECT 4::smallint, e.* FROM cicada.event_4 e;

CREATE TABLE cicada.dead_letter (
    id          bigint PRIMARY KEY,
    queue       integer NOT NULL,
    epoch       integer NOT NULL,
    attempt     integer NOT NULL,
    priority    smallint NOT NULL,
    depth       smallint NOT NULL,
    time        timestamptz NOT NULL,
    started_at  timestamptz,
    died_at     timestamptz NOT NULL,
    reason      text NOT NULL,
    last_error  text,
    key         text COLLATE "C",
    source      text,
    type        text,
    subject     text,
    traceparent text,
    headers     text,
    payload     text NOT NULL
);
CREATE INDEX dead_letter_queue ON cicada.dead_letter (queue, id);

-- The dedupKey of an event, kept for 24 hours from its first use.
CREATE TABLE cicada.dedup (
    queue      integer NOT NULL,
    key        text COLLATE "C" NOT NULL,
    event      bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (queue, key)
);
CREATE INDEX dedup_expires_at ON cicada.dedup (expires_at);

-- Now, as the sequences in queue.wake count.
CREATE FUNCTION cicada.clock_ms() RETURNS bigint LANGUAGE sql VOLATILE
    RETURN (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- What an event gets of the transaction that sends it. Both settings are made by that of an event's handler; SET LOCAL leaves ''
-- behind.
CREATE FUNCTION cicada.next_depth() RETURNS integer LANGUAGE sql STABLE
    RETURN coalesce(nullif(current_setting('cicada.depth', true), '')::integer + 1, 0);

CREATE FUNCTION cicada.current_traceparent() RETURNS text LANGUAGE sql STABLE
    RETURN left(nullif(current_setting('cicada.traceparent', true), ''), 512);

-- ---- Writing events: the API for everybody ----

-- The queue of a table's or a schedule's trigger. Names like this one are for these alone.
CREATE FUNCTION cicada.trigger_queue(namespace text, function text, trigger text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT 'cicada.' || left(encode(sha256(convert_to(namespace || '/' || function || '/' || trigger, 'UTF8')), 'hex'), 32)
$body$;

-- Makes a queue, and does nothing if it is there. Its id.
CREATE FUNCTION cicada.queue_make(queue text) RETURNS integer
    LANGUAGE plpgsql
AS $body$
DECLARE
    queue_id integer;
BEGIN
    SELECT q.id INTO queue_id FROM cicada.queue q WHERE q.name = queue_make.queue;
    IF FOUND THEN
        RETURN queue_id;
    END IF;
    IF coalesce(queue_make.queue, '') !~ '^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$' THEN
        RAISE EXCEPTION 'queue name % is not valid', coalesce(quote_literal(queue_make.queue), 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It has 1 to 63 letters, digits, ".", "_" and "-", and begins and ends with a letter or digit.';
    END IF;
    INSERT INTO cicada.queue (name) VALUES (queue_make.queue) ON CONFLICT (name) DO NOTHING RETURNING id INTO queue_id;
    IF queue_id IS NULL THEN
        SELECT q.id INTO STRICT queue_id FROM cicada.queue q WHERE q.name = queue_make.queue;
        RETURN queue_id;
    END IF;
    EXECUTE format('CREATE SEQUENCE cicada.queue_wake_%s MINVALUE -1', queue_id);
    PERFORM setval(format('cicada.queue_wake_%s', queue_id), 0);
    UPDATE cicada.queue q SET wake = format('cicada.queue_wake_%s', queue_id)::regclass WHERE q.id = queue_id;
    RETURN queue_id;
END
$body$;

-- Names that begin with "cicada." are those of trigger_queue(), which nobody declares or sends to.
CREATE FUNCTION cicada.refuse_trigger_queue(queue text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
AS $body$
BEGIN
    IF starts_with(refuse_trigger_queue.queue, 'cicada.') THEN
        RAISE EXCEPTION 'queue name % is reserved', quote_literal(refuse_trigger_queue.queue)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Queues of table and schedule triggers have names like this. They come and go with their triggers.';
    END IF;
END
$body$;

-- Declares a queue, and does nothing if it is there. Its id.
CREATE FUNCTION cicada.create_queue(queue text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    PERFORM cicada.refuse_trigger_queue(queue);
    RETURN cicada.queue_make(queue);
END
$body$;

CREATE FUNCTION cicada.queue_find(queue text) RETURNS cicada.queue
    LANGUAGE plpgsql STABLE
AS $body$
DECLARE
    found_row cicada.queue;
BEGIN
    SELECT * INTO found_row FROM cicada.queue q WHERE q.name = queue_find.queue;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'queue % is not declared', coalesce(quote_literal(queue_find.queue), 'NULL')
            USING ERRCODE = 'undefined_object',
                  HINT = format('SELECT cicada.create_queue(%L), or deploy a Function with a trigger on it.', queue_find.queue);
    END IF;
    RETURN found_row;
END
$body$;

-- One option that is a text: a JSON string or number of 1 to 255 bytes. NULL: not given.
CREATE FUNCTION cicada.option_text(options jsonb, name text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
AS $body$
DECLARE
    value text := options ->> name;
BEGIN
    IF value IS NULL THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(options -> name) NOT IN ('string', 'number') OR octet_length(value) NOT BETWEEN 1 AND 255 THEN
        RAISE EXCEPTION 'option % must be a string of 1 to 255 bytes, or a number', quote_ident(name)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN value;
END
$body$;

-- How long to wait: a number is seconds, a string an interval ('5 minutes').
CREATE FUNCTION cicada.option_delay(options jsonb) RETURNS interval
    LANGUAGE plpgsql STABLE
AS $body$
DECLARE
    delay interval;
BEGIN
    CASE jsonb_typeof(options -> 'delay')
        WHEN 'number' THEN delay := make_interval(secs => least(greatest((options ->> 'delay')::numeric, -1), 1e9)::float8);
        WHEN 'string' THEN delay := (options ->> 'delay')::interval;
        ELSE delay := NULL;
    END CASE;
    IF delay IS NULL OR delay < interval '0' OR delay > interval '366 days' THEN
        RAISE EXCEPTION 'option delay must be a number of seconds or an interval, from 0 to 366 days'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN delay;
END
$body$;

-- Headers as they are kept: an object of strings, together at most 16 KiB.
CREATE FUNCTION cicada.option_headers(options jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
AS $body$
DECLARE
    headers jsonb := options -> 'headers';
BEGIN
    IF jsonb_typeof(headers) <> 'object'
        OR EXISTS (SELECT FROM jsonb_each(CASE jsonb_typeof(headers) WHEN 'object' THEN headers ELSE '{}' END) h
                   WHERE jsonb_typeof(h.value) <> 'string') THEN
        RAISE EXCEPTION 'option headers must be an object of strings' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF octet_length(headers::text) > 16384 THEN
        RAISE EXCEPTION 'option headers has more than 16384 bytes' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    RETURN headers::text;
END
$body$;

-- An event of this queue with these options, without id and payload; nothing is written.
CREATE FUNCTION cicada.event_new(queue_id integer, options jsonb) RETURNS cicada.event_0
    LANGUAGE plpgsql
AS $body$
DECLARE
    e cicada.event_0;
BEGIN
    e.queue := queue_id;
    e.time := now();
    e.due_at := clock_timestamp();
    e.epoch := 0;
    e.attempt := 0;
    e.priority := 0;
    e.ordered := false;
    e.alone := false;
    e.depth := cicada.next_depth();
    e.traceparent := cicada.current_traceparent();
    IF options <> '{}' THEN
        IF jsonb_typeof(options) <> 'object' THEN
            RAISE EXCEPTION 'options must be a JSON object' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF options - ARRAY['key', 'delay', 'priority', 'headers', 'dedupKey'] <> '{}' THEN
            RAISE EXCEPTION 'unknown option %', (SELECT quote_ident(k) FROM jsonb_object_keys(options) k
                WHERE k NOT IN ('key', 'delay', 'priority', 'headers', 'dedupKey') ORDER BY k LIMIT 1)
                USING ERRCODE = 'invalid_parameter_value', HINT = 'There are key, delay, priority, headers and dedupKey.';
        END IF;
        e.key := cicada.option_text(options, 'key');
        IF options ->> 'delay' IS NOT NULL THEN
            e.due_at := e.due_at + cicada.option_delay(options);
        END IF;
        IF options ->> 'priority' IS NOT NULL THEN
            IF options ->> 'priority' !~ '^(-?[0-9]|-?10)$' THEN
                RAISE EXCEPTION 'option priority must be an integer from -10 to 10'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            e.priority := (options ->> 'priority')::smallint;
        END IF;
        IF options ->> 'headers' IS NOT NULL THEN
            e.headers := cicada.option_headers(options);
        END IF;
    END IF;
    e.lane := -e.priority;
    RETURN e;
END
$body$;

CREATE FUNCTION cicada.payload_text(payload jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
AS $body$
DECLARE
    payload_text text := payload::text;
BEGIN
    IF payload_text IS NULL THEN
        RAISE EXCEPTION 'payload is NULL' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'JSON null is written ''null''.';
    END IF;
    IF octet_length(payload_text) > 262144 THEN
        RAISE EXCEPTION 'payload has % bytes, and 262144 are allowed', octet_length(payload_text)
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
    RETURN payload_text;
END
$body$;

-- Writes it to the dead letters, and nowhere else.
CREATE FUNCTION cicada.event_bury_row(e cicada.event_0, reason text) RETURNS void
    LANGUAGE sql
AS $body$
    INSERT INTO cicada.dead_letter (id, queue, epoch, attempt, priority, depth, time, started_at, died_at, reason, last_error,
                                    key, source, type, subject, traceparent, headers, payload)
    VALUES (e.id, e.queue, e.epoch, e.attempt, e.priority, e.depth, e.time, e.started_at, clock_timestamp(), reason,
            e.last_error, e.key, e.source, e.type, e.subject, e.traceparent, e.headers, e.payload)
$body$;

-- Where an event belongs that is due then: what is due much later would only have to be moved.
CREATE FUNCTION cicada.event_place(due_at timestamptz) RETURNS bigint LANGUAGE sql VOLATILE
    RETURN CASE WHEN due_at < clock_timestamp() + interval '1 minute' THEN pg_sequence_last_value('cicada.event_slot') ELSE 0 END;

-- Writes an event where it belongs. Its table is locked against TRUNCATE until the transaction ends.
CREATE FUNCTION cicada.event_put(e cicada.event_0) RETURNS void
    LANGUAGE plpgsql
AS $body$
BEGIN
    IF e.depth > 16 THEN
        PERFORM cicada.event_bury_row(e, 'depth');
        RETURN;
    END IF;
    CASE cicada.event_place(e.due_at)
        WHEN 1 THEN INSERT INTO cicada.event_1 VALUES (e.*);
        WHEN 2 THEN INSERT INTO cicada.event_2 VALUES (e.*);
        WHEN 3 THEN INSERT INTO cicada.event_3 VALUES (e.*);
        WHEN 4 THEN INSERT INTO cicada.event_4 VALUES (e.*);
        ELSE INSERT INTO cicada.event_0 VALUES (e.*);
    END CASE;
END
$body$;

-- NOTIFY cicada_wake with the queue's id, if its consumer sleeps. Only then: commits with a NOTIFY stand in one line.
CREATE FUNCTION cicada.queue_notify(q cicada.queue, due_at timestamptz) RETURNS void
    LANGUAGE plpgsql
AS $body$
BEGIN
    IF pg_sequence_last_value(q.wake) > cicada.clock_ms() AND due_at <= clock_timestamp() THEN
        PERFORM pg_notify('cicada_wake', q.id::text);
    END IF;
END
$body$;

-- The event that has this dedupKey: the new one, if no other one had it in the last 24 hours. Who asks while another
-- transaction has just used it waits for the end of that one.
CREATE FUNCTION cicada.dedup_claim(queue_id integer, dedup_key text, event_id bigint) RETURNS bigint
    LANGUAGE plpgsql
AS $body$
DECLARE
    found_id bigint;
BEGIN
    LOOP -- until nobody removes or renews it between the statements
        INSERT INTO cicada.dedup VALUES (queue_id, dedup_key, event_id, now() + interval '24 hours')
        ON CONFLICT ON CONSTRAINT dedup_pkey DO NOTHING;
        EXIT WHEN FOUND;
        SELECT d.event INTO found_id FROM cicada.dedup d
        WHERE d.queue = queue_id AND d.key = dedup_key AND d.expires_at > now();
        IF FOUND THEN
            RETURN found_id;
        END IF;
        UPDATE cicada.dedup d SET event = event_id, expires_at = now() + interval '24 hours'
        WHERE d.queue = queue_id AND d.key = dedup_key AND d.expires_at <= now();
        EXIT WHEN FOUND;
    END LOOP;
    RETURN event_id;
END
$body$;

-- enqueue() in all its generality.
CREATE FUNCTION cicada.enqueue_any(queue text, payload jsonb, options jsonb) RETURNS bigint
    LANGUAGE plpgsql
AS $body$
DECLARE
    q cicada.queue;
    e cicada.event_0;
    first_id bigint;
BEGIN
    PERFORM cicada.refuse_trigger_queue(enqueue_any.queue);
    q := cicada.queue_find(enqueue_any.queue);
    e := cicada.event_new(q.id, options);
    e.payload := cicada.payload_text(enqueue_any.payload);
    e.id := nextval('cicada.event_id');
    IF options ->> 'dedupKey' IS NOT NULL THEN
        first_id := cicada.dedup_claim(q.id, cicada.option_text(options, 'dedupKey'), e.id);
        IF first_id <> e.id THEN
            RETURN first_id;
        END IF;
    END IF;
    PERFORM cicada.event_put(e);
    PERFORM cicada.queue_notify(q, e.due_at);
    RETURN e.id;
END
$body$;

-- What writers wait for is written without parts of its own, which would double what it costs. This is the SQL of the branches of
-- CASE slot, where queue_id, event_id, event_key, depth, traceparent and body are variables. Such an event is due at once.
CREATE FUNCTION cicada.put_sql(source text, type text) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $body$
    SELECT string_agg(format($sql$
        WHEN %1$s THEN
            INSERT INTO cicada.event_%1$s (id, due_at, time, queue, epoch, attempt, lane, priority, depth, ordered, alone, key,
                                           source, type, traceparent, payload)
            VALUES (event_id, clock_timestamp(), now(), queue_id, 0, 0, 0, 0, depth, false, false, event_key, %2$s, %3$s,
                    traceparent, body);$sql$, slot, put_sql.source, put_sql.type), '' ORDER BY slot)
    FROM generate_series(1, 4) slot
$body$;

DO $enqueue$
BEGIN
    EXECUTE replace($create$
-- Sends an event, in the caller's transaction; its id. Options:
--   key        its subject, and what an ordered queue keeps in order
--   delay      seconds or an interval; not before that
--   priority   -10 to 10, default 0; a higher one goes first
--   headers    an object of strings
--   dedupKey   a second event with it in this queue within 24 hours is not sent: the first one's id is returned
-- An event that is the 17th in a chain of events (cicada.depth) is a dead letter at once.
--
-- The frequent cases, with a key or without options, take two statements; with a dedupKey one more.
CREATE FUNCTION cicada.enqueue(queue text, payload jsonb, options jsonb DEFAULT '{}') RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    queue_id integer;
    wake_until bigint;
    slot bigint;
    depth integer;
    traceparent text;
    body text;
    event_key text;
    dedup_key text;
    event_id bigint;
    first_id bigint;
BEGIN
    IF options <> '{}' THEN
        event_key := options ->> 'key';
        IF (options = jsonb_build_object('key', event_key) -- a string, and nothing else
            AND octet_length(event_key) BETWEEN 1 AND 255) IS NOT TRUE THEN
            dedup_key := options ->> 'dedupKey';
            IF (options = jsonb_strip_nulls(jsonb_build_object('key', event_key, 'dedupKey', dedup_key))
                AND octet_length(dedup_key) BETWEEN 1 AND 255
                AND octet_length(coalesce(event_key, 'none')) BETWEEN 1 AND 255) IS NOT TRUE THEN
                RETURN cicada.enqueue_any(enqueue.queue, enqueue.payload, options);
            END IF;
        END IF;
    END IF;
    SELECT r.id, pg_sequence_last_value(r.wake), pg_sequence_last_value('cicada.event_slot'), cicada.next_depth(),
           cicada.current_traceparent(), enqueue.payload::text
    INTO queue_id, wake_until, slot, depth, traceparent, body
    FROM cicada.queue r WHERE r.name = enqueue.queue AND NOT starts_with(r.name, 'cicada.');
    IF (octet_length(body) <= 262144 AND depth <= 16) IS NOT TRUE THEN
        RETURN cicada.enqueue_any(enqueue.queue, enqueue.payload, options); -- also if there is no such queue, or no payload
    END IF;
    event_id := nextval('cicada.event_id');
    IF dedup_key IS NOT NULL THEN
        first_id := cicada.dedup_claim(queue_id, dedup_key, event_id);
        IF first_id <> event_id THEN
            RETURN first_id;
        END IF;
    END IF;
    CASE slot{put}
    END CASE;
    IF wake_until > 0 THEN -- as queue_notify()
        IF wake_until > cicada.clock_ms() THEN
            PERFORM pg_notify('cicada_wake', queue_id::text);
        END IF;
    END IF;
    RETURN event_id;
END
$body$
    $create$, '{put}', cicada.put_sql('NULL', 'NULL'));
END
$enqueue$;

DO $enqueue$
BEGIN
    EXECUTE replace($create$
-- Sends up to 10,000 events with the same options (no dedupKey); their ids, in the order of the payloads.
--
-- One INSERT for all of them. unnest() stands in the select list, where it hands out one payload after the other: in FROM all would
-- be written to a temporary file first, if they are many bytes.
CREATE FUNCTION cicada.enqueue_many(queue text, payloads jsonb[], options jsonb DEFAULT '{}') RETURNS SETOF bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    q cicada.queue;
    e cicada.event_0;
BEGIN
    PERFORM cicada.refuse_trigger_queue(enqueue_many.queue);
    q := cicada.queue_find(enqueue_many.queue);
    e := cicada.event_new(q.id, options);
    IF options ->> 'dedupKey' IS NOT NULL THEN
        RAISE EXCEPTION 'dedupKey is for one event: use cicada.enqueue()' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF cardinality(payloads) > 10000 THEN
        RAISE EXCEPTION '% payloads, and 10000 are allowed at once', cardinality(payloads)
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
    IF (cardinality(payloads) > 0) IS NOT TRUE THEN
        RETURN;
    END IF;
    IF e.depth > 16 THEN
        RETURN QUERY
        INSERT INTO cicada.dead_letter (id, queue, epoch, attempt, priority, depth, time, died_at, reason, key, traceparent,
                                        headers, payload)
        SELECT nextval('cicada.event_id'), e.queue, e.epoch, e.attempt, e.priority, e.depth, e.time, clock_timestamp(), 'depth',
               e.key, e.traceparent, e.headers, cicada.payload_text(u.payload)
        FROM (SELECT unnest(payloads) AS payload) u
        RETURNING id;
    ELSE
        CASE cicada.event_place(e.due_at){put}
        END CASE;
    END IF;
    PERFORM cicada.queue_notify(q, e.due_at);
END
$body$
    $create$, '{put}', (SELECT string_agg(format($sql$
            WHEN %1$s THEN
                RETURN QUERY
                INSERT INTO cicada.event_%1$s (id, due_at, time, queue, epoch, attempt, lane, priority, depth, ordered, alone, key,
                                               traceparent, headers, payload)
                SELECT nextval('cicada.event_id'), e.due_at, e.time, e.queue, e.epoch, e.attempt, e.lane, e.priority, e.depth,
                       e.ordered, e.alone, e.key, e.traceparent, e.headers, cicada.payload_text(u.payload)
                FROM (SELECT unnest(payloads) AS payload) u
                RETURNING id;$sql$, slot), '' ORDER BY slot)
                        FROM generate_series(0, 4) slot));
END
$enqueue$;

-- ---- Working on events: for the consumers of queues ----
--
-- All of them need READ COMMITTED, where each statement sees what was committed before it began and after it had its locks;
-- but event_settle() and event_settle_many(), which stand in the handler's transaction.

CREATE FUNCTION cicada.need_read_committed() RETURNS void
    LANGUAGE plpgsql
AS $body$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'this needs a transaction in READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
    END IF;
END
$body$;

-- Registers the consumer of a queue, and declares the queue if it is not there. held_by: who has it instead (namespace,
-- function and trigger), or NULL: it is ours. The first one keeps it until queue_release(). Also for a changed `ordered`.
-- A queue with a name of trigger_queue() is that trigger's.
CREATE FUNCTION cicada.queue_consume(queue text, namespace text, function text, trigger text, ordered boolean,
                                     OUT queue_id integer, OUT held_by text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    q cicada.queue;
BEGIN
    PERFORM cicada.need_read_committed();
    IF queue_consume.namespace || queue_consume.function || queue_consume.trigger || ordered::text IS NULL THEN
        RAISE EXCEPTION 'a consumer has namespace, function, trigger and ordered' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF queue_consume.queue IS DISTINCT FROM
        cicada.trigger_queue(queue_consume.namespace, queue_consume.function, queue_consume.trigger) THEN
        PERFORM cicada.refuse_trigger_queue(queue_consume.queue);
    END IF;
    queue_id := cicada.queue_make(queue_consume.queue);
    PERFORM pg_advisory_xact_lock(7310294, queue_id); -- no claim is at work
    SELECT * INTO q FROM cicada.queue r WHERE r.id = queue_id FOR UPDATE;
    IF q.namespace IS NOT NULL AND (q.namespace <> queue_consume.namespace OR q.function <> queue_consume.function
                                    OR q.trigger <> queue_consume.trigger) THEN
        held_by := format('%s/%s, trigger %s', q.namespace, q.function, q.trigger);
        RETURN;
    END IF;
    IF q.namespace IS NULL OR q.ordered <> queue_consume.ordered THEN
        UPDATE cicada.queue r
        SET namespace = queue_consume.namespace, function = queue_consume.function, trigger = queue_consume.trigger,
            ordered = queue_consume.ordered, since = coalesce(q.since, now())
        WHERE r.id = queue_id;
    END IF;
    IF q.ordered <> queue_consume.ordered THEN
        FOR turn IN 1 .. 5 LOOP -- event_0 last: event_maintain() moves events there, never from there
            -- Those at work must leave their marks behind, or no more.
            EXECUTE format('UPDATE cicada.event_%s e SET ordered = $2 WHERE e.queue = $1 AND e.lane = 127', turn % 5)
            USING queue_id, queue_consume.ordered;
            EXECUTE format('DELETE FROM cicada.event_%s e WHERE e.queue = $1 AND e.lane = 125', turn % 5) USING queue_id;
        END LOOP;
        -- Parked ones may be too many for one statement, and claims see to them. Marks are gone: nothing else would.
        UPDATE cicada.queue r SET unpark = true WHERE r.id = queue_id;
    END IF;
END
$body$;

-- Removes the sequences of queues that are gone. One that a table's trigger still asks stays, to answer.
CREATE FUNCTION cicada.wake_sweep() RETURNS void
    LANGUAGE plpgsql
AS $body$
DECLARE
    wake regclass;
BEGIN
    FOR wake IN
        SELECT c.oid FROM pg_class c
        WHERE c.relnamespace = 'cicada'::regnamespace AND c.relkind = 'S' AND c.relname ~ '^queue_wake_[0-9]+$'
            AND NOT EXISTS (SELECT FROM cicada.queue q WHERE q.wake = c.oid)
            AND NOT EXISTS (SELECT FROM pg_trigger t WHERE starts_with(t.tgname, 'cicada.')
                                AND position(convert_to('cicada.' || c.relname, 'UTF8') || '\x00' IN t.tgargs) = 1)
    LOOP
        EXECUTE format('DROP SEQUENCE %s', wake);
    END LOOP;
END
$body$;

-- Removes a queue and all it holds, up to 20,000 rows by one call: millions would take longer than a caller waits. False: it is not
-- done, call it again; until then nothing more is captured. True: it is gone, or was not there. Its id may stay in an open
-- transaction's events, which event_maintain() removes.
CREATE FUNCTION cicada.queue_drop(queue text) RETURNS boolean
    LANGUAGE plpgsql
AS $body$
DECLARE
    q cicada.queue;
    place text;
    most integer := 20000;
    removed integer;
BEGIN
    PERFORM cicada.need_read_committed();
    PERFORM pg_advisory_xact_lock(7310294, 0); -- event_maintain() moves nothing
    PERFORM pg_advisory_xact_lock(7310294, r.id) FROM cicada.queue r WHERE r.name = queue_drop.queue; -- no claim is at work
    SELECT * INTO q FROM cicada.queue r WHERE r.name = queue_drop.queue FOR UPDATE;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    PERFORM setval(q.wake, -1);
    FOREACH place IN ARRAY ARRAY['event_0', 'event_1', 'event_2', 'event_3', 'event_4', 'dead_letter'] LOOP
        EXECUTE format('DELETE FROM cicada.%1$I WHERE id = ANY (ARRAY('
                       'SELECT p.id FROM cicada.%1$I p WHERE p.queue = $1 LIMIT $2))', place)
        USING q.id, most;
        GET DIAGNOSTICS removed = ROW_COUNT;
        most := most - removed;
        IF most <= 0 THEN
            RETURN false;
        END IF;
    END LOOP;
    -- What was changed by others in the meantime may have been left.
    IF EXISTS (SELECT FROM cicada.event e WHERE e.queue = q.id) OR EXISTS (SELECT FROM cicada.dead_letter d WHERE d.queue = q.id) THEN
        RETURN false;
    END IF;
    DELETE FROM cicada.dedup d WHERE d.queue = q.id;
    DELETE FROM cicada.queue r WHERE r.id = q.id;
    PERFORM cicada.wake_sweep();
    RETURN true;
END
$body$;

-- Ends a registration. The queue stays, with its events; but that of a table's or a schedule's trigger goes, with all it holds.
-- False: it was not this consumer's; or a trigger's queue still holds something: call it again.
CREATE FUNCTION cicada.queue_release(queue text, namespace text, function text, trigger text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF starts_with(queue_release.queue, 'cicada.') THEN
        RETURN queue_release.queue =
            cicada.trigger_queue(queue_release.namespace, queue_release.function, queue_release.trigger)
            AND cicada.queue_drop(queue_release.queue);
    END IF;
    UPDATE cicada.queue q SET namespace = NULL, function = NULL, trigger = NULL, since = NULL
    WHERE q.name = queue_release.queue AND (q.namespace, q.function, q.trigger) =
        (queue_release.namespace, queue_release.function, queue_release.trigger);
    RETURN FOUND;
END
$body$;

-- Publishes that a consumer of these queues sleeps from now on, for 2 seconds at most: events are notified. Commit it, claim
-- once more, and wait no longer than a second for cicada_wake with the queue's id. A claim that finds something ends it. It
-- is a sequence's value: seen at once, by old snapshots too, and no row that many versions could pile up of.
CREATE FUNCTION cicada.queue_sleep(queue_ids integer[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    queue_id integer;
    wake regclass;
BEGIN
    FOREACH queue_id IN ARRAY queue_ids LOOP
        PERFORM pg_advisory_xact_lock_shared(7310294, queue_id); -- nobody closes or drops it
        SELECT q.wake INTO wake FROM cicada.queue q WHERE q.id = queue_id AND coalesce(pg_sequence_last_value(q.wake), 0) >= 0;
        IF FOUND THEN
            PERFORM setval(wake, cicada.clock_ms() + 2000);
        END IF;
    END LOOP;
END
$body$;

DO $slots$
BEGIN
    FOR slot IN 0 .. 4 LOOP
        -- Leases up to `most` due events of one lane. Of a lease that ran out a neighbour may have been the cause: the first
        -- time, what then is run alone spends no attempt for that.
        EXECUTE replace($slot$
            CREATE FUNCTION cicada.event_take_{slot}(queue_id integer, from_lane smallint, now_at timestamptz,
                                                     lease_end timestamptz, most integer) RETURNS SETOF cicada.event_0
                LANGUAGE plpgsql
            AS $body$
            BEGIN
                RETURN QUERY
                WITH picked AS MATERIALIZED (
                    SELECT e.id FROM cicada.event_{slot} e
                    WHERE e.queue = queue_id AND e.lane = from_lane AND e.due_at <= now_at
                    ORDER BY e.due_at LIMIT most FOR UPDATE SKIP LOCKED
                )
                UPDATE cicada.event_{slot} e
                SET lane = 127, due_at = lease_end, epoch = e.epoch + 1,
                    attempt = e.attempt + CASE WHEN from_lane = 127 AND NOT e.alone THEN 0 ELSE 1 END,
                    ordered = e.lane = 127 AND e.ordered,
                    alone = from_lane = 127, started_at = coalesce(e.started_at, now_at)
                FROM picked p WHERE e.id = p.id
                RETURNING e.*;
            END
            $body$
        $slot$, '{slot}', slot::text);

        -- The same for an ordered queue, among the first 500: takes those that are the first unfinished event of their key if
        -- none of the key is at work (busy), and parks those that are not the first. Each is parked once at most, until it is.
        -- The first one is never parked, for nothing would let it go: that of a busy key may have been given back just now.
        EXECUTE replace($slot$
            CREATE FUNCTION cicada.event_take_ordered_{slot}(queue_id integer, from_lane smallint, now_at timestamptz,
                                                             lease_end timestamptz, most integer, busy text[])
                RETURNS SETOF cicada.event_0
                LANGUAGE plpgsql
            AS $body$
            BEGIN
                RETURN QUERY
                WITH candidate AS MATERIALIZED (
                    SELECT e.id, e.key, e.due_at FROM cicada.event_{slot} e
                    WHERE e.queue = queue_id AND e.lane = from_lane AND e.due_at <= now_at
                    ORDER BY e.due_at LIMIT 500 FOR UPDATE SKIP LOCKED
                ), head AS MATERIALIZED (
                    SELECT h.id FROM (SELECT DISTINCT c.key FROM candidate c WHERE c.key IS NOT NULL) k
                    CROSS JOIN LATERAL (
                        SELECT e.id FROM cicada.event e
                        WHERE e.queue = queue_id AND e.key = k.key AND e.lane <> 125
                        ORDER BY e.queue, e.key, e.id LIMIT 1
                    ) h
                ), picked AS MATERIALIZED (
                    SELECT c.id FROM candidate c
                    WHERE c.key IS NULL OR c.key <> ALL (busy) AND c.id IN (SELECT h.id FROM head h)
                    ORDER BY c.due_at LIMIT most
                ), parked AS (
                    UPDATE cicada.event_{slot} e SET lane = 126
                    FROM candidate c WHERE e.id = c.id AND c.key IS NOT NULL AND c.id NOT IN (SELECT h.id FROM head h)
                )
                UPDATE cicada.event_{slot} e
                SET lane = 127, due_at = lease_end, epoch = e.epoch + 1, attempt = e.attempt + 1, ordered = e.key IS NOT NULL,
                    alone = false, started_at = coalesce(e.started_at, now_at)
                FROM picked p WHERE e.id = p.id
                RETURNING e.*;
            END
            $body$
        $slot$, '{slot}', slot::text);

        -- Removes marks of what is done; their keys.
        EXECUTE replace($slot$
            CREATE FUNCTION cicada.event_collect_{slot}(queue_id integer) RETURNS SETOF text
                LANGUAGE plpgsql
            AS $body$
            BEGIN
                RETURN QUERY
                WITH done AS MATERIALIZED (
                    SELECT e.id FROM cicada.event_{slot} e WHERE e.queue = queue_id AND e.lane = 125
                    ORDER BY e.due_at LIMIT 1000 FOR UPDATE SKIP LOCKED
                )
                DELETE FROM cicada.event_{slot} e USING done d WHERE e.id = d.id RETURNING e.key;
            END
            $body$
        $slot$, '{slot}', slot::text);

        -- Gives parked events their turn.
        EXECUTE replace($slot$
            CREATE FUNCTION cicada.event_unpark_{slot}(ids bigint[]) RETURNS void
                LANGUAGE plpgsql
            AS $body$
            BEGIN
                UPDATE cicada.event_{slot} e SET lane = -e.priority WHERE e.id = ANY (ids) AND e.lane = 126;
            END
            $body$
        $slot$, '{slot}', slot::text);

        -- Ends those leases that are still held; their ids.
        EXECUTE replace($slot$
            CREATE FUNCTION cicada.event_end_{slot}(ids bigint[], epochs integer[]) RETURNS SETOF bigint
                LANGUAGE plpgsql
            AS $body$
            BEGIN
                RETURN QUERY
                DELETE FROM cicada.event_{slot} e USING unnest(ids, epochs) l (id, epoch)
                WHERE e.id = l.id AND e.epoch = l.epoch AND e.lane = 127 AND NOT e.ordered
                RETURNING e.id;
                IF FOUND AND cardinality(ids) = 1 THEN
                    RETURN;
                END IF;
                RETURN QUERY
                UPDATE cicada.event_{slot} e SET lane = 125, due_at = clock_timestamp(), payload = ''
                FROM unnest(ids, epochs) l (id, epoch)
                WHERE e.id = l.id AND e.epoch = l.epoch AND e.lane = 127 AND e.ordered
                RETURNING e.id;
            END
            $body$
        $slot$, '{slot}', slot::text);
    END LOOP;
END
$slots$;

CREATE FUNCTION cicada.event_take(slot integer, queue_id integer, from_lane smallint, now_at timestamptz,
                                  lease_end timestamptz, most integer) RETURNS SETOF cicada.event_0
    LANGUAGE plpgsql
AS $body$
BEGIN
    CASE slot
        WHEN 0 THEN RETURN QUERY SELECT * FROM cicada.event_take_0(queue_id, from_lane, now_at, lease_end, most);
        WHEN 1 THEN RETURN QUERY SELECT * FROM cicada.event_take_1(queue_id, from_lane, now_at, lease_end, most);
        WHEN 2 THEN RETURN QUERY SELECT * FROM cicada.event_take_2(queue_id, from_lane, now_at, lease_end, most);
        WHEN 3 THEN RETURN QUERY SELECT * FROM cicada.event_take_3(queue_id, from_lane, now_at, lease_end, most);
        WHEN 4 THEN RETURN QUERY SELECT * FROM cicada.event_take_4(queue_id, from_lane, now_at, lease_end, most);
    END CASE;
END
$body$;

CREATE FUNCTION cicada.event_take_ordered(slot integer, queue_id integer, from_lane smallint, now_at timestamptz,
                                          lease_end timestamptz, most integer, busy text[]) RETURNS SETOF cicada.event_0
    LANGUAGE plpgsql
AS $body$
BEGIN
    CASE slot
        WHEN 0 THEN RETURN QUERY
            SELECT * FROM cicada.event_take_ordered_0(queue_id, from_lane, now_at, lease_end, most, busy);
        WHEN 1 THEN RETURN QUERY
            SELECT * FROM cicada.event_take_ordered_1(queue_id, from_lane, now_at, lease_end, most, busy);
        WHEN 2 THEN RETURN QUERY
            SELECT * FROM cicada.event_take_ordered_2(queue_id, from_lane, now_at, lease_end, most, busy);
        WHEN 3 THEN RETURN QUERY
            SELECT * FROM cicada.event_take_ordered_3(queue_id, from_lane, now_at, lease_end, most, busy);
        WHEN 4 THEN RETURN QUERY
            SELECT * FROM cicada.event_take_ordered_4(queue_id, from_lane, now_at, lease_end, most, busy);
    END CASE;
END
$body$;

-- Lets the next event of each key go whose last one is done. Under the queue's lock: what an earlier claim has parked is seen.
CREATE FUNCTION cicada.event_unblock(queue_id integer) RETURNS void
    LANGUAGE plpgsql
AS $body$
DECLARE
    keys text[] := '{}';
    next record;
BEGIN
    FOR next IN SELECT DISTINCT e.slot FROM cicada.event e WHERE e.queue = queue_id AND e.lane = 125 LOOP
        CASE next.slot
            WHEN 0 THEN keys := keys || ARRAY(SELECT * FROM cicada.event_collect_0(queue_id));
            WHEN 1 THEN keys := keys || ARRAY(SELECT * FROM cicada.event_collect_1(queue_id));
            WHEN 2 THEN keys := keys || ARRAY(SELECT * FROM cicada.event_collect_2(queue_id));
            WHEN 3 THEN keys := keys || ARRAY(SELECT * FROM cicada.event_collect_3(queue_id));
            WHEN 4 THEN keys := keys || ARRAY(SELECT * FROM cicada.event_collect_4(queue_id));
        END CASE;
    END LOOP;
    FOR next IN
        SELECT h.slot, array_agg(h.id) AS ids
        FROM (SELECT DISTINCT k FROM unnest(keys) k) d CROSS JOIN LATERAL (
            SELECT e.slot, e.id, e.lane FROM cicada.event e
            WHERE e.queue = queue_id AND e.key = d.k AND e.lane <> 125
            ORDER BY e.queue, e.key, e.id LIMIT 1
        ) h WHERE h.lane = 126 GROUP BY h.slot
    LOOP
        CASE next.slot
            WHEN 0 THEN PERFORM cicada.event_unpark_0(next.ids);
            WHEN 1 THEN PERFORM cicada.event_unpark_1(next.ids);
            WHEN 2 THEN PERFORM cicada.event_unpark_2(next.ids);
            WHEN 3 THEN PERFORM cicada.event_unpark_3(next.ids);
            WHEN 4 THEN PERFORM cicada.event_unpark_4(next.ids);
        END CASE;
        PERFORM cicada.event_unpark_0(next.ids); -- where event_maintain() may just have moved them
    END LOOP;
END
$body$;

-- After a change of the order: lets 10,000 parked events go. False: there are none any more.
CREATE FUNCTION cicada.queue_unpark(queue_id integer) RETURNS boolean
    LANGUAGE plpgsql
AS $body$
DECLARE
    most integer := 10000;
    moved integer;
BEGIN
    FOR turn IN 1 .. 5 LOOP -- event_0 last: event_maintain() moves events there, never from there
        EXECUTE format('UPDATE cicada.event_%1$s e SET lane = -e.priority WHERE e.lane = 126 AND e.id = ANY (ARRAY('
                       'SELECT p.id FROM cicada.event_%1$s p WHERE p.queue = $1 AND p.lane = 126'
                       ' ORDER BY p.due_at LIMIT $2 FOR UPDATE SKIP LOCKED))', turn % 5)
        USING queue_id, most;
        GET DIAGNOSTICS moved = ROW_COUNT;
        most := most - moved;
        EXIT WHEN most <= 0;
    END LOOP;
    IF EXISTS (SELECT FROM cicada.event e WHERE e.queue = queue_id AND e.lane = 126) THEN
        RETURN true;
    END IF;
    UPDATE cicada.queue q SET unpark = false WHERE q.id = queue_id AND q.unpark;
    RETURN false;
END
$body$;

-- Leases up to `most` due events of a queue for so long, each to one caller only: those of a higher priority first, then by
-- the time at which they were due. Commit it before anything is done with them, with synchronous_commit off: what a crash of
-- the server takes back was not begun. `attempt` counts this one. An event is lost to who comes with an older epoch.
--
-- An event whose lease ran out is handed out alone: as the only row (alone), and only if the caller is idle, with no event in
-- hand. alone_waits: there is one; be idle soon. A caller that is not idle and gets nothing else is told so by a row without an event.
--
-- From an ordered queue an event with a key comes only if no other of its key is at work or was sent before it and is not
-- finished. payload and headers (NULL: none) are JSON.
CREATE FUNCTION cicada.event_claim(queue_id integer, most integer, lease interval, idle boolean)
    RETURNS TABLE (slot integer, id bigint, epoch integer, attempt integer, alone boolean, alone_waits boolean, source text,
                   type text, subject text, "time" timestamptz, headers text, traceparent text, depth integer, payload text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_generic_plan SET jit = off
AS $body$
#variable_conflict use_column
DECLARE
    q cicada.queue;
    now_at timestamptz := clock_timestamp();
    lease_end timestamptz := now_at + lease;
    order_holds boolean;
    waits boolean;
    busy text[];
    place text;
    from_lane smallint;
    from_slot integer;
    current_slot integer := pg_sequence_last_value('cicada.event_slot');
    slots integer[] := '{0}';
    got integer;
    taken integer := 0;
    rounds integer;
BEGIN
    PERFORM cicada.need_read_committed();
    IF most IS NULL OR most NOT BETWEEN 1 AND 10000 OR lease IS NULL OR lease <= interval '0' OR idle IS NULL THEN
        RAISE EXCEPTION 'a claim is for 1 to 10000 events, a lease longer than nothing, and says whether the caller is idle'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT r.ordered INTO order_holds FROM cicada.queue r WHERE r.id = queue_id;
    IF order_holds THEN
        PERFORM pg_advisory_xact_lock(7310294, queue_id); -- claims of an ordered queue stand in line
    ELSE
        PERFORM pg_advisory_xact_lock_shared(7310294, queue_id);
    END IF;
    SELECT * INTO q FROM cicada.queue r WHERE r.id = queue_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no queue %', queue_id USING ERRCODE = 'undefined_object';
    END IF;
    IF q.ordered <> order_holds THEN
        RETURN; -- it has changed since; the next claim has the right lock
    END IF;
    place := '/cicada/' || coalesce(q.namespace, '') || '/' || q.name;
    IF q.unpark THEN
        IF cicada.queue_unpark(queue_id) AND q.ordered THEN
            RETURN; -- some are left, and would not be told from those that are parked in the new order
        END IF;
    END IF;
    IF q.ordered THEN
        PERFORM cicada.event_unblock(queue_id);
        busy := ARRAY(SELECT e.key FROM cicada.event e WHERE e.queue = queue_id AND e.lane = 127 AND e.key IS NOT NULL);
    END IF;
    SELECT EXISTS (SELECT FROM cicada.event e WHERE e.queue = queue_id AND e.lane = 127 AND e.due_at <= now_at),
           (SELECT e.lane FROM cicada.event e WHERE e.queue = queue_id AND e.lane BETWEEN -10 AND -1
            ORDER BY e.queue, e.lane LIMIT 1)
    INTO waits, from_lane;
    from_lane := coalesce(from_lane, 0);
    IF waits AND idle THEN
        FOR from_slot IN SELECT DISTINCT e.slot FROM cicada.event e
            WHERE e.queue = queue_id AND e.lane = 127 AND e.due_at <= now_at
        LOOP
            RETURN QUERY
            SELECT from_slot, e.id, e.epoch, e.attempt, true, false, coalesce(e.source, place),
                   coalesce(e.type, 'cicada.dev.message'), coalesce(e.subject, e.key), e.time, e.headers, e.traceparent,
                   e.depth::integer, e.payload
            FROM cicada.event_take(from_slot, queue_id, 127::smallint, now_at, lease_end, 1) e;
            IF FOUND THEN
                RETURN;
            END IF;
        END LOOP;
    END IF;
    -- From what was left over to the current slot, which has the newest. An empty file has nothing.
    FOR step IN 1 .. 4 LOOP
        from_slot := (current_slot + step - 1) % 4 + 1;
        IF pg_relation_size(('cicada.event_' || from_slot)::regclass) > 0 THEN
            slots := slots || from_slot;
        END IF;
    END LOOP;
    <<lanes>>
    LOOP
        FOREACH from_slot IN ARRAY slots LOOP
            rounds := 0;
            IF q.ordered THEN
                -- A long line of one key may stand before another key's event: what was looked at is parked, and the next come up.
                LOOP
                    RETURN QUERY
                    SELECT from_slot, e.id, e.epoch, e.attempt, false, waits, coalesce(e.source, place),
                           coalesce(e.type, 'cicada.dev.message'), coalesce(e.subject, e.key), e.time, e.headers, e.traceparent,
                           e.depth::integer, e.payload
                    FROM cicada.event_take_ordered(from_slot, queue_id, from_lane, now_at, lease_end, most - taken, busy) e;
                    GET DIAGNOSTICS got = ROW_COUNT;
                    rounds := rounds + 1;
                    EXIT WHEN got > 0 OR rounds = 20 OR NOT EXISTS (
                        SELECT FROM cicada.event e WHERE e.slot = from_slot AND e.queue = queue_id AND e.lane = from_lane
                            AND e.due_at <= now_at);
                END LOOP;
            ELSE
                RETURN QUERY
                SELECT from_slot, e.id, e.epoch, e.attempt, false, waits, coalesce(e.source, place),
                       coalesce(e.type, 'cicada.dev.message'), coalesce(e.subject, e.key), e.time, e.headers, e.traceparent,
                       e.depth::integer, e.payload
                FROM cicada.event_take(from_slot, queue_id, from_lane, now_at, lease_end, most - taken) e;
                GET DIAGNOSTICS got = ROW_COUNT;
            END IF;
            taken := taken + got;
            EXIT lanes WHEN taken >= most;
        END LOOP;
        -- Lane 0 is where nearly all of them are: it is looked through without being asked first.
        from_lane := coalesce((SELECT e.lane FROM cicada.event e
                               WHERE from_lane < 0 AND e.queue = queue_id AND e.lane > from_lane AND e.lane < 0
                               ORDER BY e.queue, e.lane LIMIT 1),
                              CASE WHEN from_lane < 0 THEN 0
                                   ELSE (SELECT e.lane FROM cicada.event e
                                         WHERE e.queue = queue_id AND e.lane > from_lane AND e.lane <= 10
                                         ORDER BY e.queue, e.lane LIMIT 1) END);
        EXIT WHEN from_lane IS NULL;
    END LOOP;
    IF taken = 0 AND waits AND NOT idle THEN
        alone_waits := true; -- a row without an event, so that the caller knows
        RETURN NEXT;
    END IF;
    -- Who has begun to work hears of the next event without being told. One that already did may not speak for those that sleep.
    IF idle AND taken > 0 AND pg_sequence_last_value(q.wake) > 0 THEN
        PERFORM setval(q.wake, 0);
    END IF;
END
$body$;

-- Ends leases that are still held; the ids of those that are not. Looks into the table of the claim, and where event_maintain()
-- moves them to.
CREATE FUNCTION cicada.event_end(slot integer, ids bigint[], epochs integer[]) RETURNS bigint[]
    LANGUAGE plpgsql
AS $body$
DECLARE
    ended bigint[];
BEGIN
    CASE slot
        WHEN 0 THEN ended := ARRAY(SELECT * FROM cicada.event_end_0(ids, epochs));
        WHEN 1 THEN ended := ARRAY(SELECT * FROM cicada.event_end_1(ids, epochs));
        WHEN 2 THEN ended := ARRAY(SELECT * FROM cicada.event_end_2(ids, epochs));
        WHEN 3 THEN ended := ARRAY(SELECT * FROM cicada.event_end_3(ids, epochs));
        WHEN 4 THEN ended := ARRAY(SELECT * FROM cicada.event_end_4(ids, epochs));
    END CASE;
    IF slot <> 0 AND cardinality(ended) < cardinality(ids) THEN
        ended := ended || ARRAY(SELECT * FROM cicada.event_end_0(ids, epochs));
    END IF;
    IF cardinality(ended) = cardinality(ids) THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(SELECT i FROM unnest(ids) i WHERE i <> ALL (ended));
END
$body$;

-- What has become of leases that are not held.
CREATE FUNCTION cicada.leases_lost(lost bigint[]) RETURNS void
    LANGUAGE plpgsql
AS $body$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the lease of event % can''t be seen', lost[1]
            USING ERRCODE = 'serialization_failure', DETAIL = array_to_string(lost, ',');
    END IF;
    RAISE EXCEPTION 'the lease of event % is lost', lost[1] USING ERRCODE = 'ZC001', DETAIL = array_to_string(lost, ',');
END
$body$;

-- The last statement of the handler's transaction: this event is done, once it commits. Raises ZC001 if it is not the caller's
-- any more: somebody else has it, so nothing of this transaction may stay. In REPEATABLE READ and SERIALIZABLE it raises 40001
-- instead, since the row may have been moved after the snapshot: event_extend() tells.
CREATE FUNCTION cicada.event_settle(slot integer, id bigint, epoch integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_generic_plan SET jit = off
AS $body$
DECLARE
    lost bigint[] := cicada.event_end(slot, ARRAY[id], ARRAY[epoch]);
BEGIN
    IF lost <> '{}' THEN
        PERFORM cicada.leases_lost(lost);
    END IF;
END
$body$;

-- The same for many. The error's detail has the ids that are lost.
CREATE FUNCTION cicada.event_settle_many(slots integer[], ids bigint[], epochs integer[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_generic_plan SET jit = off
AS $body$
DECLARE
    part record;
    lost bigint[] := '{}';
BEGIN
    FOR part IN
        SELECT l.slot, array_agg(l.id ORDER BY l.id) AS ids, array_agg(l.epoch ORDER BY l.id) AS epochs
        FROM unnest(slots, ids, epochs) l (slot, id, epoch) GROUP BY l.slot ORDER BY l.slot DESC -- the order of lease_change()
    LOOP
        lost := lost || cicada.event_end(part.slot, part.ids, part.epochs);
    END LOOP;
    IF lost <> '{}' THEN
        PERFORM cicada.leases_lost(lost);
    END IF;
END
$body$;

-- Changes leased rows by `action`, which has them as e, the leases as l, and $4 to $6; the ids of those that are not held.
CREATE FUNCTION cicada.lease_change(action text, slots integer[], ids bigint[], epochs integer[], a timestamptz, b integer,
                                    c text) RETURNS SETOF bigint
    LANGUAGE plpgsql
AS $body$
DECLARE
    part record;
    found_ids bigint[] := '{}';
    more bigint[];
BEGIN
    PERFORM cicada.need_read_committed();
    FOR part IN -- the table of the claim first, then event_0
        SELECT l.slot, array_agg(l.id ORDER BY l.id) AS ids, array_agg(l.epoch ORDER BY l.id) AS epochs
        FROM (SELECT u.* FROM unnest(slots, ids, epochs) u (slot, id, epoch)
              UNION SELECT 0, u.id, u.epoch FROM unnest(ids, epochs) u (id, epoch)) l (slot, id, epoch)
        GROUP BY l.slot ORDER BY l.slot DESC
    LOOP
        EXECUTE format('WITH changed AS (UPDATE cicada.event_%s e SET %s FROM unnest($1, $2) l (id, epoch)'
                       ' WHERE e.id = l.id AND e.epoch = l.epoch AND e.lane = 127 AND e.id <> ALL ($3) RETURNING e.id)'
                       ' SELECT array_agg(id) FROM changed', part.slot, action)
        INTO more USING part.ids, part.epochs, found_ids, a, b, c;
        found_ids := found_ids || more;
        EXIT WHEN cardinality(found_ids) = cardinality(ids);
    END LOOP;
    RETURN QUERY SELECT i FROM unnest(ids) i WHERE i <> ALL (found_ids);
END
$body$;

-- Makes leases end so long from now; the ids of those that are lost. Not once a REPEATABLE READ or SERIALIZABLE transaction
-- of a handler has begun that shall settle the event: that would fail with 40001.
CREATE FUNCTION cicada.event_extend(slots integer[], ids bigint[], epochs integer[], lease interval) RETURNS SETOF bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $body$
    SELECT cicada.lease_change('due_at = $4', slots, ids, epochs, clock_timestamp() + lease, NULL, NULL)
$body$;

-- Gives back events that were not begun: due at once, the attempt does not count. The ids of those that are lost.
CREATE FUNCTION cicada.event_give_back(slots integer[], ids bigint[], epochs integer[]) RETURNS SETOF bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $body$
    SELECT cicada.lease_change('lane = CASE WHEN e.alone THEN 127 ELSE -e.priority END, attempt = e.attempt - 1,'
                               ' epoch = e.epoch + 1, due_at = least(e.time, $4)',
                               slots, ids, epochs, clock_timestamp(), NULL, NULL)
$body$;

-- Lets an event run again after the delay. spend: the attempt counts. False: it is lost.
CREATE FUNCTION cicada.event_retry(slot integer, id bigint, epoch integer, delay interval, spend boolean, error text)
    RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $body$
    SELECT NOT EXISTS (SELECT cicada.lease_change(
        'lane = -e.priority, alone = false, due_at = $4, attempt = e.attempt - $5, last_error = left($6, 2000)',
        ARRAY[slot], ARRAY[id], ARRAY[epoch], clock_timestamp() + greatest(delay, interval '0'),
        CASE WHEN spend THEN 0 ELSE 1 END, error))
$body$;

-- Makes an event a dead letter, with the reason and the last error. False: it is lost.
CREATE FUNCTION cicada.event_bury(slot integer, id bigint, epoch integer, reason text, error text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET jit = off
AS $body$
DECLARE
    e cicada.event_0;
    try_slot integer;
BEGIN
    PERFORM cicada.need_read_committed();
    FOREACH try_slot IN ARRAY ARRAY[event_bury.slot, 0] LOOP
        EXECUTE format('SELECT * FROM cicada.event_%s e WHERE e.id = $1 AND e.epoch = $2 AND e.lane = 127 FOR UPDATE', try_slot)
        INTO e USING event_bury.id, event_bury.epoch;
        IF e.id IS NOT NULL THEN
            e.last_error := left(error, 2000);
            PERFORM cicada.event_bury_row(e, reason);
            PERFORM cicada.event_end(try_slot, ARRAY[e.id], ARRAY[e.epoch]);
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$body$;

-- ---- Upkeep ----

-- Moves up to `most` events of a slot to event_0; how many. with_leased: also those that somebody works on. Those of a queue
-- that is gone are removed: they were sent by a transaction that was open when it went.
CREATE FUNCTION cicada.slot_drain(slot integer, most integer, with_leased boolean) RETURNS integer
    LANGUAGE plpgsql
AS $body$
DECLARE
    moved integer;
BEGIN
    EXECUTE format('WITH gone AS (DELETE FROM cicada.event_%1$s WHERE ctid = ANY (ARRAY('
                   ' SELECT e.ctid FROM cicada.event_%1$s e WHERE $2 OR e.lane <> 127 OR e.due_at < now()'
                   ' LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING *)'
                   ' INSERT INTO cicada.event_0 SELECT g.* FROM gone g WHERE g.queue IN (SELECT q.id FROM cicada.queue q)',
                   slot)
    USING most, with_leased;
    GET DIAGNOSTICS moved = ROW_COUNT;
    RETURN moved;
END
$body$;

-- Truncates one of the five tables if nothing is in it. Who has written to it and is not at the end yet has it locked: then it
-- is left for later, without standing in anybody's way.
CREATE FUNCTION cicada.slot_truncate(slot integer) RETURNS boolean
    LANGUAGE plpgsql
AS $body$
DECLARE
    holds_some boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM cicada.event_%s)', slot) INTO holds_some;
    IF holds_some THEN
        RETURN false;
    END IF;
    FOR attempt IN 1 .. 5 LOOP
        BEGIN
            EXECUTE format('LOCK TABLE cicada.event_%s IN ACCESS EXCLUSIVE MODE NOWAIT', slot);
            -- A new statement, a new snapshot: all who have had it locked before are seen.
            EXECUTE format('SELECT EXISTS (SELECT FROM cicada.event_%s)', slot) INTO holds_some;
            IF NOT holds_some THEN
                EXECUTE format('TRUNCATE cicada.event_%s', slot);
            END IF;
            RETURN NOT holds_some;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.002);
        END;
    END LOOP;
    RETURN false;
END
$body$;

-- Writes to the server's log, every 10 minutes at most, who keeps an empty slot from being truncated; nothing, if nobody does.
CREATE FUNCTION cicada.slot_warn(slot integer) RETURNS void
    LANGUAGE plpgsql
AS $body$
DECLARE
    pause_ms CONSTANT bigint := 600000;
    place CONSTANT text := 'cicada.event_' || slot;
    holds_some boolean;
    holders text;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', place) INTO holds_some;
    IF holds_some OR coalesce(pg_sequence_last_value('cicada.slot_warned'), 0) > cicada.clock_ms() - pause_ms THEN
        RETURN;
    END IF;
    SELECT string_agg(DISTINCT coalesce(l.pid::text, 'none (a prepared transaction)'), ', ') INTO holders FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.relation = place::regclass AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
    IF holders IS NOT NULL THEN
        PERFORM setval('cicada.slot_warned', cicada.clock_ms());
        RAISE WARNING '% can''t be truncated, and the slots grow: an open transaction has it locked, process %', place, holders
            USING HINT = 'See pg_stat_activity. One that has sent an event, read cicada.event or called queue_stats() should be short.';
    END IF;
END
$body$;

-- To be called about once a second by each consumer (one works, the others have nothing to do), in a transaction of its own
-- with synchronous_commit off. Makes another slot the current when this one has grown, and truncates those that are empty.
CREATE FUNCTION cicada.event_maintain() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_bitmapscan = off SET jit = off
AS $body$
DECLARE
    limit_bytes CONSTANT bigint := 1048576; -- with indexes and TOAST
    warn_bytes CONSTANT bigint := 32 * limit_bytes; -- below, locks of the moment may have been the cause
    current_slot integer := pg_sequence_last_value('cicada.event_slot');
    sizes bigint[];
    free_slot integer;
    live integer;
BEGIN
    PERFORM cicada.need_read_committed();
    IF NOT pg_try_advisory_xact_lock(7310294, 0) THEN
        RETURN;
    END IF;
    current_slot := pg_sequence_last_value('cicada.event_slot');
    FOR s IN 1 .. 4 LOOP
        sizes[s] := pg_relation_size(format('cicada.event_%s', s));
        CONTINUE WHEN s = current_slot OR sizes[s] = 0;
        EXECUTE format('SELECT count(*) FROM (SELECT FROM cicada.event_%s LIMIT 1001) l', s) INTO live;
        IF live <= 1000 THEN
            PERFORM cicada.slot_drain(s, 1000, false);
            PERFORM cicada.slot_truncate(s);
        END IF;
    END LOOP;
    IF pg_total_relation_size(format('cicada.event_%s', current_slot)) > limit_bytes THEN
        -- One that was empty before: one that was truncated here is locked until this transaction ends, and who sends would wait.
        free_slot := array_position(sizes, 0);
        IF free_slot IS NOT NULL THEN
            PERFORM setval('cicada.event_slot', free_slot);
        ELSE
            -- All hold something: one of them must give it away, the smallest.
            SELECT s INTO free_slot FROM unnest(sizes) WITH ORDINALITY u (bytes, s) WHERE s <> current_slot
            ORDER BY bytes LIMIT 1;
            PERFORM cicada.slot_drain(free_slot, 20000, true);
            IF NOT cicada.slot_truncate(free_slot)
                AND pg_total_relation_size(format('cicada.event_%s', current_slot)) > warn_bytes THEN
                PERFORM cicada.slot_warn(free_slot);
            END IF;
        END IF;
    END IF;
    IF pg_total_relation_size('cicada.event_0') > limit_bytes THEN
        PERFORM cicada.slot_truncate(0);
    END IF;
END
$body$;

-- Removes at most so many dedupKeys that are older than a day; how many it were.
CREATE FUNCTION cicada.dedup_purge(most integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    WITH expired AS MATERIALIZED (
        SELECT d.queue, d.key FROM cicada.dedup d WHERE d.expires_at <= now()
        ORDER BY d.expires_at LIMIT most FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM cicada.dedup d USING expired x WHERE d.queue = x.queue AND d.key = x.key RETURNING 1
    )
    SELECT count(*)::integer FROM removed
$body$;

-- ---- Looking after queues: the API for everybody ----

-- What each queue, or each of these, holds. Nothing is counted beyond 10,000 (capped: there may be more). due: could be claimed
-- now; blocked: waits for an earlier event of its key; dead: dead letters. due is 1 also if all that a claim has to do is to let go
-- those behind an event that is done.
CREATE FUNCTION cicada.queue_stats(queues text[] DEFAULT NULL)
    RETURNS TABLE (queue text, queue_id integer, consumer text, due bigint, delayed bigint, leased bigint, blocked bigint,
                   dead bigint, capped boolean, oldest_due interval, oldest_due_s double precision)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_generic_plan SET jit = off
AS $body$
#variable_conflict use_column
DECLARE
    most CONSTANT integer := 10000;
    now_at timestamptz := clock_timestamp();
    q record;
    lanes smallint[];
    oldest timestamptz;
BEGIN
    FOR q IN SELECT * FROM cicada.queue r WHERE queues IS NULL OR r.name = ANY (queues) ORDER BY r.name LOOP
        queue := q.name;
        queue_id := q.id;
        consumer := q.namespace || '/' || q.function || ', trigger ' || q.trigger;
        -- The lanes that have anything, by one look each; leases that ran out are due.
        WITH RECURSIVE found (lane) AS (
            SELECT (SELECT e.lane FROM cicada.event e WHERE e.queue = q.id AND e.lane <= 10
                    ORDER BY e.queue, e.lane LIMIT 1)
            UNION ALL
            SELECT (SELECT e.lane FROM cicada.event e WHERE e.queue = q.id AND e.lane > f.lane AND e.lane <= 10
                    ORDER BY e.queue, e.lane LIMIT 1)
            FROM found f WHERE f.lane IS NOT NULL
        )
        SELECT array_agg(f.lane) || 127::smallint INTO lanes FROM found f WHERE f.lane IS NOT NULL;
        lanes := coalesce(lanes, ARRAY[127::smallint]);
        SELECT count(*), min(x.due_at) INTO due, oldest
        FROM (SELECT y.due_at FROM unnest(lanes) l CROSS JOIN LATERAL (
                  SELECT e.due_at FROM cicada.event e WHERE e.queue = q.id AND e.lane = l AND e.due_at <= now_at
                  ORDER BY e.queue, e.lane, e.due_at LIMIT most) y LIMIT most) x;
        SELECT count(*) INTO delayed
        FROM (SELECT FROM unnest(lanes) l CROSS JOIN LATERAL (
                  SELECT FROM cicada.event e WHERE e.queue = q.id AND e.lane = l AND e.due_at > now_at LIMIT most) y
              WHERE l <> 127 LIMIT most) x;
        leased := (SELECT count(*) FROM (SELECT FROM cicada.event e
                   WHERE e.queue = q.id AND e.lane = 127 AND e.due_at > now_at LIMIT most) x);
        blocked := (SELECT count(*) FROM (SELECT FROM cicada.event e WHERE e.queue = q.id AND e.lane = 126 LIMIT most) x);
        IF due = 0 AND blocked > 0 THEN -- a mark, or another order: the next claim lets one of them go, and somebody must come for that
            oldest := (SELECT e.due_at FROM cicada.event e WHERE e.queue = q.id AND e.lane = 125
                       ORDER BY e.queue, e.lane, e.due_at LIMIT 1);
            due := (oldest IS NOT NULL OR q.unpark)::integer;
        END IF;
        dead := (SELECT count(*) FROM (SELECT FROM cicada.dead_letter d WHERE d.queue = q.id LIMIT most) x);
        capped := greatest(due, delayed, leased, blocked, dead) >= most;
        oldest_due := now_at - oldest;
        oldest_due_s := extract(epoch FROM oldest_due);
        RETURN NEXT;
    END LOOP;
END
$body$;

-- The dead letters of a queue, the oldest events first. reason: why it died; error: what was said then. payload is what jsonb may
-- refuse: a row's json may have \u0000.
CREATE FUNCTION cicada.dead_letters(queue text, most integer DEFAULT 1000)
    RETURNS TABLE (id bigint, reason text, error text, attempt integer, key text, payload json, headers jsonb, depth integer,
                   "time" timestamptz, started_at timestamptz, died_at timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
    q cicada.queue := cicada.queue_find(dead_letters.queue);
BEGIN
    RETURN QUERY
    SELECT d.id, d.reason, d.last_error, d.attempt, d.key, d.payload::json, d.headers::jsonb, d.depth::integer, d.time,
           d.started_at, d.died_at
    FROM cicada.dead_letter d WHERE d.queue = q.id ORDER BY d.id LIMIT most;
END
$body$;

-- Sends dead letters again, those with these ids or (NULL) the oldest, as they were: with their id, no attempt, depth 0. How
-- many it were.
CREATE FUNCTION cicada.redrive(queue text, ids bigint[] DEFAULT NULL, most integer DEFAULT 1000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    q cicada.queue := cicada.queue_find(redrive.queue);
    e cicada.event_0 := cicada.event_new(q.id, NULL);
    d cicada.dead_letter;
    redriven integer := 0;
BEGIN
    FOR d IN
        WITH picked AS MATERIALIZED (
            SELECT r.id FROM cicada.dead_letter r WHERE r.queue = q.id AND (ids IS NULL OR r.id = ANY (ids))
            ORDER BY r.id LIMIT most FOR UPDATE SKIP LOCKED
        )
        DELETE FROM cicada.dead_letter r USING picked p WHERE r.id = p.id RETURNING r.*
    LOOP
        e.id := d.id;
        e.epoch := d.epoch; -- else a worker that lost it long ago would match again
        e.time := d.time;
        e.lane := -d.priority;
        e.priority := d.priority;
        e.depth := 0;
        e.key := d.key;
        e.source := d.source;
        e.type := d.type;
        e.subject := d.subject;
        e.traceparent := d.traceparent;
        e.headers := d.headers;
        e.last_error := d.last_error;
        e.payload := d.payload;
        PERFORM cicada.event_put(e);
        redriven := redriven + 1;
    END LOOP;
    IF redriven > 0 THEN
        PERFORM cicada.queue_notify(q, e.due_at);
    END IF;
    RETURN redriven;
END
$body$;

-- Removes rows of a queue from one of the tables, those that this condition on p holds for, so many or (NULL) all; how many it were.
-- Who is about to change one of them is waited for.
CREATE FUNCTION cicada.purge_table(place text, queue_id integer, condition text, most bigint) RETURNS bigint
    LANGUAGE plpgsql
AS $body$
DECLARE
    removed bigint;
BEGIN
    EXECUTE format(CASE WHEN most IS NULL THEN 'DELETE FROM cicada.%1$I p WHERE p.queue = $1 AND (%2$s)'
                        ELSE 'DELETE FROM cicada.%1$I WHERE id = ANY (ARRAY('
                             'SELECT p.id FROM cicada.%1$I p WHERE p.queue = $1 AND (%2$s) LIMIT $2 FOR UPDATE))' END,
                   place, condition)
    USING queue_id, most;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$body$;

-- Removes the events of a queue that nobody works on, or (dead) its dead letters instead; how many it were. `most`: no more than so
-- many, so that claims need not wait for all of millions; call it again, each time in a transaction of its own, until it returns 0.
CREATE FUNCTION cicada.purge(queue text, dead boolean DEFAULT false, most integer DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    q cicada.queue := cicada.queue_find(purge.queue);
    removed bigint := 0;
    condition text;
BEGIN
    IF most < 1 THEN
        RAISE EXCEPTION 'at most % rows can''t be removed: it is 1 or more, or NULL', most
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF dead THEN
        RETURN cicada.purge_table('dead_letter', q.id, 'true', most);
    END IF;
    PERFORM cicada.need_read_committed();
    PERFORM pg_advisory_xact_lock(7310294, q.id); -- no claim is at work
    -- What is parked goes first: one that is removed leaves no mark, and nothing would let those go that are parked behind it. Marks
    -- of what is done (125) stay: the next claim wants them.
    FOREACH condition IN ARRAY ARRAY['p.lane = 126', 'p.lane NOT IN (125, 127) OR p.lane = 127 AND p.due_at <= now()'] LOOP
        FOR turn IN 1 .. 5 LOOP -- event_0 last: event_maintain() moves events there, never from there
            removed := removed + cicada.purge_table('event_' || turn % 5, q.id, condition, most - removed);
            IF removed >= most THEN
                RETURN removed;
            END IF;
        END LOOP;
    END LOOP;
    RETURN removed;
END
$body$;

-- Lets a role send events, and nothing else. For the owner. DROP OWNED BY takes it back.
CREATE FUNCTION cicada.grant_enqueue_to(role_name name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA cicada TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION cicada.enqueue(text, jsonb, jsonb) TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION cicada.enqueue_many(text, jsonb[], jsonb) TO %I', role_name);
END
$body$;

        $step$],

        ARRAY['0.1.0', $step$

-- ---- Schedules ----

-- Up to when each schedule's ticks have been sent.
CREATE TABLE cicada.schedule (
    namespace  text COLLATE "C",
    function   text COLLATE "C",
    trigger    text COLLATE "C",
    expression text NOT NULL, -- cron and time zone
    last_tick  timestamptz NOT NULL,
    PRIMARY KEY (namespace, function, trigger)
);

-- Up to when this schedule's ticks have been sent: up to now, if it is new or its expression is another. It has a queue then.
CREATE FUNCTION cicada.schedule_look(namespace text, function text, trigger text, expression text,
                                     OUT last_tick timestamptz, OUT now_at timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    queue_name CONSTANT text := cicada.trigger_queue(namespace, function, trigger);
BEGIN
    PERFORM cicada.need_read_committed();
    IF queue_name || schedule_look.expression IS NULL THEN
        RAISE EXCEPTION 'a schedule has namespace, function, trigger and expression' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT EXISTS (SELECT FROM cicada.queue q WHERE q.name = queue_name AND q.namespace IS NOT NULL) THEN
        PERFORM cicada.queue_consume(queue_name, schedule_look.namespace, schedule_look.function, schedule_look.trigger, false);
    END IF;
    -- Closed by table_unregister(), if a table's trigger had this name. As long as a table has that, it would write again.
    PERFORM setval(q.wake, 0) FROM cicada.queue q
    WHERE q.name = queue_name AND pg_sequence_last_value(q.wake) < 0 AND NOT EXISTS (SELECT FROM cicada.table_present(queue_name));
    now_at := now();
    SELECT s.last_tick INTO schedule_look.last_tick FROM cicada.schedule s
    WHERE (s.namespace, s.function, s.trigger, s.expression) =
        (schedule_look.namespace, schedule_look.function, schedule_look.trigger, schedule_look.expression);
    IF NOT FOUND THEN
        INSERT INTO cicada.schedule AS s
        VALUES (schedule_look.namespace, schedule_look.function, schedule_look.trigger, schedule_look.expression, now_at)
        ON CONFLICT ON CONSTRAINT schedule_pkey
        DO UPDATE SET expression = excluded.expression,
                      last_tick = CASE s.expression WHEN excluded.expression THEN s.last_tick ELSE excluded.last_tick END
        RETURNING s.last_tick INTO schedule_look.last_tick;
    END IF;
END
$body$;

-- Sends an event for each of the ticks (at most 1,000) and remembers that all up to new_last_tick have been. skipped: how many
-- before the first of them were left out. False, and nothing is done: somebody else was first, or the schedule is another. Who was
-- first with some of them only has sent those.
CREATE FUNCTION cicada.schedule_tick(namespace text, function text, trigger text, expression text, ticks timestamptz[],
                                     new_last_tick timestamptz, skipped bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    q cicada.queue;
    e cicada.event_0;
    seen timestamptz;
    tick timestamptz;
    left_out bigint := coalesce(skipped, 0);
BEGIN
    PERFORM cicada.need_read_committed();
    IF cardinality(ticks) > 1000 THEN
        RAISE EXCEPTION '% ticks, and 1000 are allowed at once', cardinality(ticks) USING ERRCODE = 'program_limit_exceeded';
    END IF;
    SELECT s.last_tick INTO seen FROM cicada.schedule s
    WHERE (s.namespace, s.function, s.trigger, s.expression) =
        (schedule_tick.namespace, schedule_tick.function, schedule_tick.trigger, schedule_tick.expression)
    FOR UPDATE;
    IF (seen < new_last_tick) IS NOT TRUE THEN
        RETURN false;
    END IF;
    UPDATE cicada.schedule s SET last_tick = new_last_tick
    WHERE (s.namespace, s.function, s.trigger) = (schedule_tick.namespace, schedule_tick.function, schedule_tick.trigger);
    q := cicada.queue_find(cicada.trigger_queue(namespace, function, trigger));
    e := cicada.event_new(q.id, NULL);
    e.type := 'cicada.dev.tick';
    e.source := '/cicada/schedule/' || namespace || '/' || function || '/' || trigger;
    FOREACH tick IN ARRAY coalesce(ticks, '{}') LOOP
        IF tick <= seen THEN -- somebody has sent it, and told what was left out before it, since the caller looked
            left_out := 0;
            CONTINUE;
        END IF;
        e.id := nextval('cicada.event_id');
        e.time := tick;
        e.payload := format('{"tick": "%s", "skipped": %s}', to_char(tick AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                            left_out);
        PERFORM cicada.event_put(e);
        left_out := 0;
    END LOOP;
    IF cardinality(ticks) > 0 THEN
        PERFORM cicada.queue_notify(q, e.due_at);
    END IF;
    RETURN true;
END
$body$;

-- Removes a schedule, its queue, and what is in it. False: the queue still holds something, call it again.
CREATE FUNCTION cicada.schedule_remove(namespace text, function text, trigger text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    PERFORM FROM cicada.schedule s -- no tick is on its way
    WHERE (s.namespace, s.function, s.trigger) =
        (schedule_remove.namespace, schedule_remove.function, schedule_remove.trigger)
    FOR UPDATE;
    IF NOT cicada.queue_drop(cicada.trigger_queue(namespace, function, trigger)) THEN
        RETURN false;
    END IF;
    DELETE FROM cicada.schedule s
    WHERE (s.namespace, s.function, s.trigger) =
        (schedule_remove.namespace, schedule_remove.function, schedule_remove.trigger);
    RETURN true;
END
$body$;

-- ---- Changes of tables ----
--
-- A table's trigger has a queue, and on the table one trigger for each operation, named after the queue and the operation. Its
-- arguments are what the row's way needs:
--   0       the queue's sequence: it is below 0, or gone, if the trigger is not registered any more
--   1       the queue's id
--   2, 3    source; names of schema and table, in JSON
--   4       schema.table, and 5 the same as SQL has it, with 6 its OID; those of the root, where partitions have copies
--   7, 8    the primary key's index, and its OID; '' if there is none
--   9       what it was made of: by it table_install() sees a change
--   10 ...  the columns of the primary key
-- DDL on the table may outdate what 2 to 10 say: that is seen, and they are looked up.

-- One part of a path, with everything else but letters, digits, '.', '_', '~' and '-' by its bytes.
CREATE FUNCTION cicada.path_part(part text) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $body$
    SELECT string_agg(CASE WHEN c COLLATE "C" ~ '^[A-Za-z0-9._~-]$' THEN c
                           ELSE upper(regexp_replace(encode(convert_to(c, 'UTF8'), 'hex'), '(..)', '%\1', 'g')) END, '' ORDER BY n)
    FROM regexp_split_to_table(part, '') WITH ORDINALITY p (c, n)
$body$;

-- What events say of a table, and its primary key.
CREATE FUNCTION cicada.table_describe(relation oid, OUT source text, OUT names text, OUT schema_name name, OUT table_name name,
                                      OUT key_index regclass, OUT key_columns name[])
    LANGUAGE sql STABLE
AS $body$
    SELECT '/postgresql/' || cicada.path_part(n.nspname) || '/' || cicada.path_part(c.relname),
           format('"schema": %s, "table": %s', to_json(n.nspname::text), to_json(c.relname::text)), n.nspname, c.relname,
           i.indexrelid::regclass,
           ARRAY(SELECT a.attname FROM unnest(i.indkey::smallint[]) WITH ORDINALITY k (attnum, place)
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                 WHERE k.place <= i.indnkeyatts ORDER BY k.place)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND i.indisvalid
    WHERE c.oid = relation
$body$;

-- The same for a trigger that may be a partition's copy: of the table that it was made on.
CREATE FUNCTION cicada.capture_describe(relation oid, trigger_name name, OUT source text, OUT names text, OUT key_columns name[])
    LANGUAGE sql STABLE
AS $body$
    WITH RECURSIVE up (tgrelid, tgparentid) AS (
        SELECT t.tgrelid, t.tgparentid FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgname = trigger_name
        UNION ALL SELECT t.tgrelid, t.tgparentid FROM up u JOIN pg_trigger t ON t.oid = u.tgparentid
    )
    SELECT d.source, d.names, d.key_columns FROM up u, cicada.table_describe(u.tgrelid) d WHERE u.tgparentid = 0
$body$;

-- SQL for the primary key of the row $1 or $2 (NEW, OLD), as JSON and as the event's key.
CREATE FUNCTION cicada.capture_key_sql(operation text, key_columns name[]) RETURNS text
    LANGUAGE sql STABLE
AS $body$
    SELECT CASE WHEN operation = 'TRUNCATE' OR key_columns = '{}' THEN $sql$SELECT 'null', NULL$sql$ ELSE
        $sql$SELECT row_to_json(k)::text, (SELECT CASE count(*) WHEN 1 THEN min(j.value #>> '{}') ELSE json_agg(j.value)::text END
             FROM json_each(row_to_json(k)) j) FROM (SELECT $sql$
        || (SELECT string_agg(format(CASE operation WHEN 'DELETE' THEN '($2).%I' ELSE '($1).%I' END, c), ', ' ORDER BY n)
            FROM unnest(key_columns) WITH ORDINALITY u (c, n))
        || ') k' END
$body$;

-- SQL for the names of the columns in which the rows $1 and $2 differ, in JSON; of all, if there is only one row.
CREATE FUNCTION cicada.capture_changed_sql(operation text, relation oid) RETURNS text
    LANGUAGE sql STABLE
AS $body$
    SELECT 'SELECT to_json(array_remove(ARRAY[' || string_agg(
               format(CASE operation
                          WHEN 'UPDATE' THEN 'CASE WHEN ROW(($1).%1$I)::record *<> ROW(($2).%1$I)::record THEN %1$L END'
                          ELSE '%1$L' END, a.attname), ', ' ORDER BY a.attnum) || ']::text[], NULL))'
    FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
$body$;

DO $insert$
BEGIN
    -- Writes the event of a changed row, in the transaction that changed it. What writers wait for: its one statement is the
    -- INSERT, all else are expressions, as long as nothing is outdated and the row is not large.
    EXECUTE replace($capture$
CREATE FUNCTION cicada.table_capture() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $body$
DECLARE
    wake_until bigint := pg_sequence_last_value(to_regclass(TG_ARGV[0]));
    queue_id integer := TG_ARGV[1];
    source text := TG_ARGV[2];
    type text := 'cicada.dev.row.' || lower(TG_OP);
    depth integer := cicada.next_depth();
    traceparent text := cicada.current_traceparent();
    event_id bigint;
    slot bigint := CASE WHEN depth <= 16 THEN pg_sequence_last_value('cicada.event_slot') END;
    head text := '{"operation": "' || TG_OP || '", ' || TG_ARGV[3] || ', "key": ';
    -- Not even made JSON, which has a limit of its own.
    large boolean := coalesce(pg_column_size(NEW), 0) + coalesce(pg_column_size(OLD), 0) > 1048576;
    image json;
    images text;
    item text;
    key_image text := 'null';
    event_key text;
    body text;
    about record;
    e cicada.event_0;
BEGIN
    IF (wake_until >= 0) IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    IF NOT large THEN
        image := row_to_json(NEW);
        images := ', "old": ' || coalesce(row_to_json(OLD)::text, 'null') || ', "new": ' || coalesce(image::text, 'null') || '}';
        IF TG_NARGS > 10 AND TG_OP <> 'TRUNCATE' THEN
            IF position(chr(92) || 'u' IN images) > 0 THEN
                key_image := NULL; -- to look into all of it fails where a json column has \u0000 or half a surrogate pair
            ELSE -- NULL if a column of the key has another name now
                IF TG_OP = 'DELETE' THEN
                    image := row_to_json(OLD);
                END IF;
                item := image -> TG_ARGV[10];
                key_image := '{' || to_json(TG_ARGV[10])::text || ':' || item;
                event_key := '[' || item;
                FOR i IN 11 .. TG_NARGS - 1 LOOP
                    item := image -> TG_ARGV[i];
                    key_image := key_image || ',' || to_json(TG_ARGV[i])::text || ':' || item;
                    event_key := event_key || ', ' || item;
                END LOOP;
                key_image := key_image || '}';
                event_key := CASE TG_NARGS WHEN 11 THEN item::json #>> '{}' ELSE event_key || ']' END;
            END IF;
        END IF;
        IF (TG_ARGV[4] = TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME OR to_regclass(TG_ARGV[5])::oid::text = TG_ARGV[6])
            AND (TG_ARGV[8] = '' OR to_regclass(TG_ARGV[7])::oid::text = TG_ARGV[8]) THEN
            body := head || key_image || images;
        END IF;
    END IF;
    IF (octet_length(body) <= 262144) IS NOT TRUE THEN
        SELECT * INTO about FROM cicada.capture_describe(TG_RELID, TG_NAME);
        source := about.source;
        EXECUTE cicada.capture_key_sql(TG_OP, about.key_columns) INTO key_image, event_key USING NEW, OLD;
        head := '{"operation": "' || TG_OP || '", ' || about.names || ', "key": ';
        body := head || key_image || images;
        IF (octet_length(body) <= 262144) IS NOT TRUE THEN
            EXECUTE cicada.capture_changed_sql(TG_OP, TG_RELID) INTO images USING NEW, OLD;
            body := head || CASE WHEN octet_length(key_image) > 131072 THEN 'null' ELSE key_image END
                || ', "changed": ' || images || ', "old": null, "new": null, "truncated": true}';
        END IF;
    END IF;
    IF octet_length(event_key) NOT BETWEEN 1 AND 255 THEN
        event_key := 'sha256:' || encode(sha256(convert_to(event_key, 'UTF8')), 'hex');
    END IF;
    event_id := nextval('cicada.event_id');
    CASE slot{put}
        ELSE
            e := cicada.event_new(queue_id, NULL);
            e.id := event_id;
            e.key := event_key;
            e.source := source;
            e.type := type;
            e.payload := body;
            PERFORM cicada.event_put(e);
    END CASE;
    IF wake_until > 0 THEN -- as queue_notify()
        IF wake_until > cicada.clock_ms() THEN
            PERFORM pg_notify('cicada_wake', queue_id::text);
        END IF;
    END IF;
    RETURN NULL;
END
$body$
    $capture$, '{put}', cicada.put_sql('source', 'type'));
END
$insert$;

-- ---- Installing and removing the triggers of tables ----

-- Raises ZC011 if a condition is not one expression: what stands between two parentheses must not be able to close them. Some
-- of what the server knows is refused, so that it is certain what is quoted.
CREATE FUNCTION cicada.condition_check(condition text) RETURNS void
    LANGUAGE plpgsql STABLE
AS $body$
DECLARE
    bare text := regexp_replace(condition, $re$'[^']*'|"[^"]*"$re$, E'\x01', 'g'); -- without what is quoted
    depth integer := 0;
    wrong text;
BEGIN
    CASE
        WHEN octet_length(condition) > 8192 THEN wrong := 'it has more than 8192 bytes';
        WHEN condition ~ E'[\x01-\x08\x0e-\x1f]' THEN wrong := 'it has a control character';
        WHEN bare ~ '^\s*$' THEN wrong := 'it is empty';
        WHEN bare ~ $re$['"]$re$ THEN wrong := 'a quote is not closed';
        WHEN bare ~ E'(^|[^A-Za-z_])[eE]\x01' THEN wrong := 'a string with escapes (E) is not taken';
        WHEN position(';' IN bare) > 0 THEN wrong := 'it has a semicolon';
        WHEN bare ~ '--|/\*|\*/' THEN wrong := 'it has a comment';
        WHEN bare ~ '[$\\]' THEN wrong := 'it has a dollar sign or a backslash outside of quotes';
        ELSE
            FOREACH wrong IN ARRAY regexp_split_to_array(regexp_replace(bare, '[^()]', '', 'g'), '') LOOP
                depth := depth + CASE wrong WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
                EXIT WHEN depth < 0;
            END LOOP;
            wrong := CASE WHEN depth <> 0 THEN 'its parentheses do not match' END;
    END CASE;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the condition must be one expression: %', wrong USING ERRCODE = 'ZC011';
    END IF;
END
$body$;

-- SQL that says whether a column of OLD and NEW differ. IS DISTINCT FROM needs an equality, which is looked up when the trigger
-- is made or, inside of arrays and the like, when it runs: where it is not certain that there is one, bytes are compared.
CREATE FUNCTION cicada.column_distinct(type_id oid, column_name name) RETURNS text
    LANGUAGE sql STABLE
AS $body$
    WITH RECURSIVE base (id) AS (
        SELECT type_id
        UNION ALL SELECT t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.id AND t.typtype = 'd'
    )
    SELECT format(CASE WHEN t.typtype = 'e' OR t.typcategory <> 'A' AND t.typnamespace = 'pg_catalog'::regnamespace
                            AND EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
                                        WHERE o.opcintype = t.oid AND o.opcdefault AND m.amname = 'btree')
                       THEN 'OLD.%1$I IS DISTINCT FROM NEW.%1$I'
                       ELSE 'ROW(OLD.%1$I)::record *<> ROW(NEW.%1$I)::record' END, column_name)
    FROM base b JOIN pg_type t ON t.oid = b.id AND t.typtype <> 'd'
$body$;

-- The table of this name, which is as SQL has it: schema.table, in double quotes where it needs them; else in public.
CREATE FUNCTION cicada.table_find(table_name text, OUT relation oid, OUT owner oid)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    parts text[];
    kind "char";
BEGIN
    BEGIN
        parts := parse_ident(table_name);
    EXCEPTION WHEN invalid_parameter_value THEN
        parts := NULL;
    END;
    IF coalesce(cardinality(parts), 0) NOT IN (1, 2) THEN
        RAISE EXCEPTION 'table name % is not valid', coalesce(quote_literal(table_name), 'NULL') USING ERRCODE = 'ZC011',
            HINT = 'It is schema.table, in double quotes where SQL needs them.';
    END IF;
    IF cardinality(parts) = 1 THEN
        parts := ARRAY['public', parts[1]];
    END IF;
    SELECT c.oid, c.relowner, c.relkind INTO relation, owner, kind
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = parts[1] AND c.relname = parts[2];
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % does not exist', table_name USING ERRCODE = 'undefined_table';
    END IF;
    IF kind NOT IN ('r', 'p') OR parts[1] IN ('cicada', 'pg_catalog', 'information_schema') THEN
        RAISE EXCEPTION '% is no table whose changes could be events', table_name USING ERRCODE = 'ZC011';
    END IF;
END
$body$;

-- The triggers that a table shall have: what pg_trigger has of them, and how they are made.
CREATE FUNCTION cicada.table_wanted(queue text, relation oid, operations text[], columns text[], condition text)
    RETURNS TABLE (name name, type smallint, args bytea, command text)
    LANGUAGE plpgsql STABLE
AS $body$
DECLARE
    about record;
    att record;
    arguments text[];
    argument_list text;
    column_name text;
    operation text;
    changes text[] := '{}';
    made_of text := '1'; -- of this way to make them
BEGIN
    FOREACH column_name IN ARRAY coalesce(columns, '{}') LOOP
        SELECT a.attname, a.attnum, a.atttypid INTO att FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'column % of table % does not exist', quote_ident(column_name), relation::regclass
                USING ERRCODE = 'ZC011';
        END IF;
        changes := changes || cicada.column_distinct(att.atttypid, att.attname);
        made_of := made_of || ' ' || att.attnum || ' ' || att.atttypid;
    END LOOP;
    SELECT * INTO about FROM cicada.table_describe(relation);
    SELECT ARRAY[q.wake::text, q.id::text, about.source, about.names, about.schema_name || '.' || about.table_name,
                 relation::regclass::text, relation::text, coalesce(about.key_index::text, ''),
                 coalesce(about.key_index::oid::text, ''),
                 left(encode(sha256(convert_to(made_of || ' ' || coalesce(condition, ''), 'UTF8')), 'hex'), 16)]
           || about.key_columns::text[]
    INTO STRICT arguments FROM cicada.queue q WHERE q.name = table_wanted.queue;
    SELECT string_agg(convert_to(a, getdatabaseencoding()) || '\x00', '' ORDER BY n), string_agg(quote_literal(a), ', ' ORDER BY n)
    INTO args, argument_list FROM unnest(arguments) WITH ORDINALITY u (a, n);
    FOREACH operation IN ARRAY ARRAY(SELECT DISTINCT unnest(operations)) LOOP
        name := queue || '.' || lower(operation);
        type := CASE operation WHEN 'INSERT' THEN 1 + 4 WHEN 'DELETE' THEN 1 + 8 WHEN 'UPDATE' THEN 1 + 16 ELSE 32 END;
        command := format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s FOR EACH %s %s EXECUTE FUNCTION cicada.table_capture(%s)',
            name, operation, relation::regclass, CASE operation WHEN 'TRUNCATE' THEN 'STATEMENT' ELSE 'ROW' END,
            'WHEN ((' || nullif(concat_ws(') AND (',
                                          CASE operation WHEN 'UPDATE' THEN nullif(array_to_string(changes, ' OR '), '') END,
                                          CASE WHEN operation <> 'TRUNCATE' THEN condition END), '') || '))',
            argument_list);
        RETURN NEXT;
    END LOOP;
END
$body$;

-- Our triggers with this queue, on whatever tables; without the copies that partitions have.
CREATE FUNCTION cicada.table_present(queue text) RETURNS SETOF pg_trigger
    LANGUAGE sql STABLE
AS $body$
    SELECT t.* FROM pg_trigger t
    WHERE t.tgname IN (queue || '.insert', queue || '.update', queue || '.delete', queue || '.truncate')
        AND t.tgfoid = 'cicada.table_capture()'::regprocedure AND t.tgparentid = 0
$body$;

-- What is here of a Function's triggers: source is 'queue', 'table' or 'schedule'. Both of the latter, if a schedule has the
-- name of a table's trigger that could not be dropped yet: the queue is the schedule's then.
CREATE FUNCTION cicada.triggers_of(namespace text, function text) RETURNS TABLE (trigger text, source text, queue text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT s.trigger, 'schedule', cicada.trigger_queue(s.namespace, s.function, s.trigger) FROM cicada.schedule s
    WHERE (s.namespace, s.function) = (triggers_of.namespace, triggers_of.function)
    UNION ALL
    SELECT s.trigger, 'table', NULL FROM cicada.schedule s
    WHERE (s.namespace, s.function) = (triggers_of.namespace, triggers_of.function)
        AND EXISTS (SELECT FROM cicada.table_present(cicada.trigger_queue(s.namespace, s.function, s.trigger)))
    UNION ALL
    SELECT q.trigger, CASE q.name WHEN cicada.trigger_queue(q.namespace, q.function, q.trigger) THEN 'table' ELSE 'queue' END,
           q.name
    FROM cicada.queue q
    WHERE (q.namespace, q.function) = (triggers_of.namespace, triggers_of.function)
        AND NOT EXISTS (SELECT FROM cicada.schedule s
                        WHERE (s.namespace, s.function, s.trigger) = (q.namespace, q.function, q.trigger)
                            AND q.name = cicada.trigger_queue(q.namespace, q.function, q.trigger))
$body$;

-- What table_install() has to run on whose tables; nothing, if all is as wanted. The queue is made if it is not there.
CREATE FUNCTION cicada.table_plan(namespace text, function text, trigger text, relation oid, operations text[], columns text[],
                                  condition text, ordered boolean)
    RETURNS TABLE (on_relation oid, owner oid, command text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    queue_name CONSTANT text := cicada.trigger_queue(namespace, function, trigger);
    taken name;
BEGIN
    PERFORM cicada.need_read_committed();
    IF queue_name || ordered::text IS NULL THEN
        RAISE EXCEPTION 'a trigger has namespace, function, name and ordered' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF coalesce(operations, '{}') = '{}' OR NOT operations <@ '{INSERT,UPDATE,DELETE,TRUNCATE}' THEN
        RAISE EXCEPTION 'operations are INSERT, UPDATE, DELETE and TRUNCATE, and one at least' USING ERRCODE = 'ZC011';
    END IF;
    IF columns <> '{}' AND 'UPDATE' <> ALL (operations) THEN
        RAISE EXCEPTION 'columns are for UPDATE, which is not among the operations' USING ERRCODE = 'ZC011';
    END IF;
    IF condition IS NOT NULL THEN
        PERFORM cicada.condition_check(condition);
    END IF;
    SELECT t.tgname INTO taken FROM pg_trigger t
    WHERE t.tgrelid = relation AND starts_with(t.tgname, queue_name || '.') AND t.tgfoid <> 'cicada.table_capture()'::regprocedure;
    IF FOUND THEN
        RAISE EXCEPTION 'table % has a trigger % that is not ours', relation::regclass, quote_ident(taken) USING ERRCODE = 'ZC011';
    END IF;
    IF NOT EXISTS (SELECT FROM cicada.queue q
                   WHERE q.name = queue_name AND q.namespace IS NOT NULL AND q.ordered = table_plan.ordered) THEN
        PERFORM cicada.queue_consume(queue_name, table_plan.namespace, table_plan.function, table_plan.trigger,
                                     table_plan.ordered);
    END IF;
    RETURN QUERY
    WITH wanted AS MATERIALIZED (
        SELECT * FROM cicada.table_wanted(queue_name, relation, operations, columns, condition)
    ), present AS MATERIALIZED (
        SELECT * FROM cicada.table_present(queue_name)
    ) -- to drop takes the stronger lock: first
    SELECT p.tgrelid, c.relowner, format('DROP TRIGGER IF EXISTS %I ON %s', p.tgname, p.tgrelid::regclass)
    FROM present p JOIN pg_class c ON c.oid = p.tgrelid
    WHERE p.tgrelid <> relation OR p.tgname NOT IN (SELECT w.name FROM wanted w)
    UNION ALL
    SELECT relation, c.relowner, w.command FROM wanted w JOIN pg_class c ON c.oid = relation
    WHERE NOT EXISTS (SELECT FROM present p WHERE p.tgrelid = relation AND p.tgname = w.name AND p.tgtype = w.type
                          AND p.tgargs = w.args);
END
$body$;

-- From now on the trigger's events are written. False: they were before.
CREATE FUNCTION cicada.table_register(namespace text, function text, trigger text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    q cicada.queue;
BEGIN
    SELECT * INTO STRICT q FROM cicada.queue r
    WHERE r.name = cicada.trigger_queue(table_register.namespace, table_register.function, table_register.trigger);
    IF pg_sequence_last_value(q.wake) >= 0 THEN
        RETURN false;
    END IF;
    PERFORM setval(q.wake, 0);
    RETURN true;
END
$body$;

-- Raises ZC010: this role does not own that table.
CREATE FUNCTION cicada.owner_refuse(relation oid, role_name name) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    owner_name CONSTANT name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = relation);
BEGIN
    RAISE EXCEPTION 'table % belongs to role %, and role % may not change its triggers', relation::regclass,
        quote_ident(owner_name), quote_ident(role_name)
        USING ERRCODE = 'ZC010', HINT = format('GRANT %I TO %I;', owner_name, role_name);
END
$body$;

-- Makes a table's changes events of the trigger's queue, in one transaction: until it commits, all is as before.
--   operations   INSERT, UPDATE, DELETE, TRUNCATE
--   columns      an UPDATE counts only if one of them is changed; NULL or none: any UPDATE
--   condition    an expression of NEW and OLD, or NULL; what is not in pg_catalog is named with its schema. TRUNCATE has no rows
-- True: something was changed. False: all was as wanted, and no table was locked. To be run by the table's owner, with a
-- lock_timeout: the table is locked against writers, and, where an operation is taken away, against all. Errors: ZC010 not the
-- owner, ZC011 name, operation, column or condition, 42P01 no such table, 55P03.
CREATE FUNCTION cicada.table_install(namespace text, function text, trigger text, table_name text, operations text[],
                                     columns text[], condition text, ordered boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $body$
DECLARE
    target record;
    step record;
    changed boolean := false;
BEGIN
    SELECT * INTO target FROM cicada.table_find(table_name);
    IF NOT pg_has_role(target.owner, 'USAGE') THEN
        PERFORM cicada.owner_refuse(target.relation, current_user);
    END IF;
    FOR step IN
        SELECT * FROM cicada.table_plan(namespace, function, trigger, target.relation, operations, columns, condition, ordered)
    LOOP
        IF NOT pg_has_role(step.owner, 'USAGE') THEN
            PERFORM cicada.owner_refuse(step.on_relation, current_user);
        END IF;
        BEGIN
            EXECUTE step.command;
        EXCEPTION WHEN OTHERS THEN
            -- What the server says of an expression becomes ZC011; not what it says of rights, of locks, or of itself.
            IF left(SQLSTATE, 2) NOT IN ('0A', '22', '42') OR SQLSTATE = '42501' THEN
                RAISE;
            END IF;
            RAISE EXCEPTION '%', SQLERRM USING ERRCODE = 'ZC011';
        END;
        changed := true;
    END LOOP;
    RETURN cicada.table_register(namespace, function, trigger) OR changed;
END
$body$;

-- From now on the trigger's events are not written any more, whatever triggers are left. False: they were not before.
CREATE FUNCTION cicada.table_unregister(namespace text, function text, trigger text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    q cicada.queue;
BEGIN
    PERFORM cicada.need_read_committed();
    SELECT * INTO q FROM cicada.queue r
    WHERE r.name = cicada.trigger_queue(table_unregister.namespace, table_unregister.function, table_unregister.trigger);
    IF NOT FOUND OR pg_sequence_last_value(q.wake) < 0 THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(7310294, q.id); -- no claim and no queue_sleep() is about to set it
    PERFORM setval(q.wake, -1);
    RETURN true;
END
$body$;

-- Our triggers that are on tables, and what drops them.
CREATE FUNCTION cicada.table_leftovers(namespace text, function text, trigger text)
    RETURNS TABLE (on_relation oid, owner oid, command text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT p.tgrelid, c.relowner, format('DROP TRIGGER IF EXISTS %I ON %s', p.tgname, p.tgrelid::regclass)
    FROM cicada.table_present(cicada.trigger_queue(namespace, function, trigger)) p JOIN pg_class c ON c.oid = p.tgrelid
    ORDER BY p.tgrelid, p.tgname
$body$;

-- The part of table_drop() that is the schema owner's.
CREATE FUNCTION cicada.table_forget() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT cicada.wake_sweep()
$body$;

-- Drops the trigger's triggers, on whatever tables; true: none is left. To be run by the tables' owner, with a lock_timeout: a
-- table is locked against all. Errors: ZC010 not the owner, 55P03.
CREATE FUNCTION cicada.table_drop(namespace text, function text, trigger text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    step record;
BEGIN
    FOR step IN SELECT * FROM cicada.table_leftovers(namespace, function, trigger) LOOP
        IF NOT pg_has_role(step.owner, 'USAGE') THEN
            PERFORM cicada.owner_refuse(step.on_relation, current_user);
        END IF;
        EXECUTE step.command;
    END LOOP;
    PERFORM cicada.table_forget();
    RETURN NOT EXISTS (SELECT FROM cicada.table_leftovers(namespace, function, trigger));
END
$body$;

-- What the tables' owner can run instead; '' if nothing is left.
CREATE FUNCTION cicada.table_cleanup_sql(namespace text, function text, trigger text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT coalesce(string_agg(l.command || ';', ' '), '') FROM cicada.table_leftovers(namespace, function, trigger) l
$body$;

        $step$]
    ];
    schema_owner name;
    done integer := 0;
    granted name;
BEGIN
    -- Else what others did before the lock was got would not be seen.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'cicada.sql needs a transaction in READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    SET LOCAL search_path = pg_catalog, pg_temp;
    SET LOCAL lock_timeout = '5s';
    PERFORM pg_advisory_xact_lock(hashtextextended('cicada.sql', 7310293));

    -- What lies in a schema of another role's must not run with the rights of this one.
    SELECT pg_get_userbyid(n.nspowner) INTO schema_owner FROM pg_namespace n WHERE n.nspname = 'cicada';
    IF NOT FOUND THEN
        CREATE SCHEMA cicada;
    ELSIF schema_owner <> current_user THEN
        RAISE EXCEPTION 'schema cicada belongs to role %: run this as that role', quote_ident(schema_owner)
            USING ERRCODE = 'insufficient_privilege';
    END IF;

    IF to_regclass('cicada.schema_version') IS NOT NULL THEN
        SELECT coalesce(max(s.version), 0) INTO done FROM cicada.schema_version s;
    END IF;
    IF done >= array_length(steps, 1) THEN
        RAISE NOTICE 'schema cicada is at version %: nothing to do', done;
        RETURN;
    END IF;
    FOR step IN done + 1 .. array_length(steps, 1) LOOP
        EXECUTE steps[step][2];
        INSERT INTO cicada.schema_version (version, min_runtime) VALUES (step, steps[step][1]);
        RAISE NOTICE 'schema cicada is now at version %', step;
    END LOOP;

    REVOKE ALL ON SCHEMA cicada FROM PUBLIC;
    REVOKE ALL ON ALL TABLES IN SCHEMA cicada FROM PUBLIC;
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA cicada FROM PUBLIC;
    FOR granted IN
        -- All whom grant_to() has let in, and not who may only send events, by grant_enqueue_to().
        SELECT DISTINCT pg_get_userbyid(a.grantee)
        FROM pg_namespace n, aclexplode(n.nspacl) a
        WHERE n.nspname = 'cicada' AND a.privilege_type = 'USAGE' AND a.grantee <> n.nspowner
            AND (has_function_privilege(a.grantee, 'cicada.schema_state()', 'EXECUTE')
                 OR NOT has_function_privilege(a.grantee, 'cicada.enqueue(text, jsonb, jsonb)', 'EXECUTE'))
    LOOP
        PERFORM cicada.grant_to(granted);
    END LOOP;
END
$cicada$;
