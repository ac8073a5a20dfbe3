CREATE TABLE IF NOT EXISTS public.visits (
    name text PRIMARY KEY CHECK (length(name) <= 100),
    count bigint NOT NULL
);
