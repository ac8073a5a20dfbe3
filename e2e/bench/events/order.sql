-- A user's own transaction: an order of one of 10,000 items.
CREATE TABLE public.item (id integer PRIMARY KEY, stock integer NOT NULL) WITH (fillfactor = 50);
INSERT INTO public.item SELECT i, 1000000 FROM generate_series(1, 10000) i;
CREATE TABLE public.orders (id bigserial PRIMARY KEY, item integer NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
