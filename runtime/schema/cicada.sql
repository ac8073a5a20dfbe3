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
-- a function's role calls are SECURITY DEFINER with a fixed search_path, and grant_to() knows them by that; all others are
-- the owner's. Nobody but the owner reads or writes a table.

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
    FOR api IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'cicada'::regnamespace AND p.prosecdef LOOP
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
        SELECT DISTINCT pg_get_userbyid(a.grantee)
        FROM pg_namespace n, aclexplode(n.nspacl) a
        WHERE n.nspname = 'cicada' AND a.privilege_type = 'USAGE' AND a.grantee <> n.nspowner
    LOOP
        PERFORM cicada.grant_to(granted);
    END LOOP;
END
$cicada$;
